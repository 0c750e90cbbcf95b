//! Where in a spec a stage is: what the operations so far have set for those to come.

use bstr::BString;
use ocluster_obuilder_spec::User;

/// What later operations of a stage go by.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The environment, newest entry first, the image's last.
    pub(super) env: Vec<(BString, BString)>,
    pub(super) workdir: BString,
    pub(super) user: User,
    pub(super) shell: Vec<BString>,
}

impl Place {
    /// Where each stage starts.
    pub(super) fn start(env: &[(BString, BString)], shell: Vec<BString>) -> Self {
        Self {
            env: env.to_vec(),
            workdir: "/".into(),
            user: User::Unix { uid: 0, gid: 0 },
            shell,
        }
    }

    /// `(env NAME VALUE)`: replaces what there is under this name.
    pub(super) fn set(&mut self, name: &BString, value: &BString) {
        self.env.retain(|(other, _)| other != name);
        self.env.insert(0, (name.clone(), value.clone()));
    }

    /// `(workdir DIR)`. Nothing is normalised, since that would change ids.
    pub(super) fn enter(&mut self, dir: &BString) {
        if dir.starts_with(b"/") {
            self.workdir.clone_from(dir);
            return;
        }
        if !self.workdir.ends_with(b"/") {
            self.workdir.push(b'/');
        }
        self.workdir.extend_from_slice(dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> Place {
        Place::start(
            &[("A".into(), "1".into()), ("B".into(), "2".into())],
            Vec::new(),
        )
    }

    #[test]
    fn relative_directories_are_joined_and_never_normalised() {
        let mut place = start();
        for (dir, then) in [
            ("src", "/src"),
            ("./x/..", "/src/./x/.."),
            ("/top/", "/top/"),
            ("sub", "/top/sub"),
        ] {
            place.enter(&dir.into());
            assert_eq!(place.workdir, then);
        }
    }

    #[test]
    fn a_variable_set_again_moves_to_the_front() {
        let mut place = start();
        place.set(&"B".into(), &"3".into());
        place.set(&"C".into(), &"4".into());
        let env: Vec<String> = place.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(env, ["C=4", "B=3", "A=1"]);
    }
}
