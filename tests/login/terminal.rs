//! A login at a terminal: what is asked, and what is not shown of the answers.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::Stdio;

use nix::pty::openpty;
use nix::sys::termios::{LocalFlags, tcgetattr};
use serde_json::Value;

use super::{Home, PASSWORD, STANDARD, USER, locked, read};
use base64::Engine as _;

/// The side of a terminal that a person sits at.
struct Person {
    terminal: File,
    seen: String,
}

impl Person {
    /// Reads until this is on the screen, or the program has gone.
    fn wait_for(&mut self, text: &str) -> bool {
        let mut byte = [0];
        while !self.seen.ends_with(text) {
            // A terminal that nobody has open any more is an error.
            match self.terminal.read(&mut byte) {
                Ok(1) => self.seen.push(char::from(byte[0])),
                _ => return false,
            }
        }
        true
    }

    fn types(&mut self, line: &str) {
        self.terminal.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn echoes(&self) -> bool {
        tcgetattr(&self.terminal).unwrap().local_flags.contains(LocalFlags::ECHO)
    }
}

#[test]
fn a_password_is_asked_for_at_a_terminal_and_not_shown() {
    let (registry, home) = (locked(), Home::new());
    let host = registry.addr().to_string();
    for (password, code) in [("mistyped-Wy5", 6), (PASSWORD, 0)] {
        let pty = openpty(None, None).unwrap();
        let mut person = Person { terminal: File::from(pty.master), seen: String::new() };
        let mut child = home
            .command(&["login", "--tls-verify=false", &host])
            .stdin(Stdio::from(pty.slave.try_clone().unwrap()))
            .stdout(Stdio::from(pty.slave))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        assert!(person.wait_for("Username: "), "{}", person.seen);
        assert!(person.echoes());
        person.types(USER);
        assert!(person.wait_for("Password: "), "{}", person.seen);
        assert!(!person.echoes(), "what is typed would be shown");
        person.types(password);
        assert_eq!(person.wait_for("Login Succeeded!\r\n"), code == 0, "{}", person.seen);
        // The terminal's own echo of the name is there, that of the password is not.
        let told = format!("Username: {USER}\r\nPassword: \r\n");
        assert!(person.seen.starts_with(&told), "{:?}", person.seen);
        assert!(!person.seen.contains(password), "{:?}", person.seen);
        let mut errors = String::new();
        child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        assert!(!errors.contains(password), "{errors}");
        assert_eq!(child.wait().unwrap().code(), Some(code), "{errors}");
        assert!(person.echoes(), "the terminal is left as it was found");
    }
    let kept: Value = read(&home.auth_json());
    assert_eq!(kept["auths"][&host]["auth"], STANDARD.encode(format!("{USER}:{PASSWORD}")));
}
