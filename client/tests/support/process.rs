//! Programs that run while a test watches them: their output, signals to them, and terminals.

use std::fs::File;
use std::io::Read;
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// A terminal: the side a person looks at, and the side a program writes to.
pub(crate) fn terminal() -> (File, File) {
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&person).unwrap();
    unlockpt(&person).unwrap();
    let name = ptsname(&person, Vec::new()).unwrap().into_string().unwrap();
    let program = File::options().read(true).write(true).open(name).unwrap();
    (File::from(person), program)
}

/// What else appears on a terminal until the last program has closed it.
pub(crate) fn rest(terminal: &mut File) -> String {
    let mut text = Vec::new();
    // Linux reports the end as an error.
    let _ = terminal.read_to_end(&mut text);
    String::from_utf8(text).unwrap()
}

/// Reads until what was read ends so.
pub(crate) fn read_until(from: &mut impl Read, end: &[u8]) -> Vec<u8> {
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(end) {
        assert_eq!(
            from.read(&mut byte).unwrap(),
            1,
            "ended after {:?}",
            String::from_utf8_lossy(&read)
        );
        read.push(byte[0]);
    }
    read
}

/// Sends a signal.
pub(crate) fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}
