//! Who runs this program, in words that others recognise: `alice@host`. It is what they say of themselves, and proves nothing.

/// The user's name and the host's.
pub(crate) fn who() -> String {
    let host = rustix::system::uname();
    named(user(), &host.nodename().to_string_lossy())
}

fn named(user: String, host: &str) -> String {
    match host {
        "" => user,
        host => format!("{user}@{host}"),
    }
}

/// As the environment has it, or the list of users; else the number.
fn user() -> String {
    if let Some(user) = std::env::var("USER").ok().filter(|user| !user.is_empty()) {
        return user;
    }
    let uid = rustix::process::getuid().as_raw();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_of(uid, &users).unwrap_or_else(|| format!("uid {uid}"))
}

/// The name of a user in a list as `passwd(5)` describes it: `name:password:uid:...`.
fn name_of(uid: u32, users: &str) -> Option<String> {
    users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_without_a_name_in_the_environment_is_looked_up_by_number() {
        let users = "root:x:0:0:root:/root:/bin/sh\n\n:x:7:\nshort:x\nalice:x:1000:1000::/home/alice:/bin/sh\n";
        assert_eq!(name_of(0, users).as_deref(), Some("root"));
        assert_eq!(name_of(1000, users).as_deref(), Some("alice"));
        assert_eq!(name_of(7, users), None);
    }

    #[test]
    fn a_host_without_a_name_is_left_out() {
        assert_eq!(named("alice".to_owned(), "box"), "alice@box");
        assert_eq!(named("alice".to_owned(), ""), "alice");
    }
}
