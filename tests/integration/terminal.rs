//! Progress on a terminal: a pseudo terminal, and a screen that is read as a person would.

use std::fs::File;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{Winsize, openpty};
use vt100::Parser;

use crate::fault_proxy::{Fault, FaultProxy, Hook};
use crate::support::registry::Registry;
use crate::support::sandbox::Sandbox;
use crate::support::write_large;

/// What was seen on a terminal.
struct Seen {
    /// The screens that differed from the ones before them, each as its rows.
    screens: Vec<Vec<String>>,
    /// All that came, escape sequences included.
    raw: String,
    code: Option<i32>,
}

impl Seen {
    /// The rows that show all layers together.
    fn totals(&self) -> Vec<&str> {
        let rows = self.screens.iter().flatten().map(|row| row.trim());
        rows.filter(|row| row.starts_with("total ")).collect()
    }

    /// The most rows of layers under way that were there at once.
    fn most_under_way(&self) -> usize {
        let under_way = |row: &&String| row.contains(" %  ") && !row.trim().starts_with("total ");
        self.screens.iter().map(|rows| rows.iter().filter(under_way).count()).max().unwrap_or(0)
    }
}

/// Runs a command at a terminal of this size, where lines change in their places. None may be wrapped at any time.
fn at_terminal(command: &mut Command, rows: u16, columns: u16) -> Seen {
    let seen = at_any_terminal(command, Some("xterm-256color"), rows, columns);
    for screen in &seen.screens {
        for row in screen {
            // A line begins with two columns, of which the first may turn; the rest of a wrapped one does not.
            let mut beginning = row.chars().skip(1);
            let begins = matches!((beginning.next(), beginning.next()), (Some(' '), Some(c)) if c != ' ');
            assert!(
                begins || row.trim().chars().count() < 2,
                "{columns} columns, {row:?}\n{}",
                screen.join("\n")
            );
        }
    }
    seen
}

fn at_any_terminal(command: &mut Command, term: Option<&str>, rows: u16, columns: u16) -> Seen {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size), None).unwrap();
    // The command must not hold the side that is read from, or it could wait for itself.
    fcntl(&pty.master, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
    match term {
        Some(term) => command.env("TERM", term),
        None => command.env_remove("TERM"),
    };
    let mut child: Child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::from(pty.slave)).spawn().unwrap();
    // The command holds the last open end of the terminal on its side, until it ends.
    command.stderr(Stdio::null());
    let (mut terminal, mut parser) = (File::from(pty.master), Parser::new(rows, columns, 0));
    let (mut screens, mut raw) = (Vec::<Vec<String>>::new(), Vec::new());
    let mut bytes = [0; 4096];
    // A terminal that nobody has open any more is an error.
    while let Ok(count) = terminal.read(&mut bytes)
        && count > 0
    {
        raw.extend_from_slice(&bytes[..count]);
        parser.process(&bytes[..count]);
        let shown: Vec<String> = parser.screen().rows(0, columns).collect();
        if screens.last() != Some(&shown) {
            screens.push(shown);
        }
    }
    let mut report = String::new();
    child.stdout.take().unwrap().read_to_string(&mut report).unwrap();
    Seen { screens, raw: String::from_utf8(raw).unwrap(), code: child.wait().unwrap().code() }
}

/// A registry whose answers to bytes of layers take their time.
fn slow(registry: &Registry, time: Duration) -> FaultProxy {
    let wait = Hook(Arc::new(move || std::thread::sleep(time)));
    registry.proxy().with_gate(move |seen| (seen.method == "PATCH").then(|| Fault::Run(wait.clone())))
}

/// A context of so many layers of 1 MiB each.
fn layers(number: u64) -> Sandbox {
    let sandbox = Sandbox::small();
    sandbox.write("model/a-directory/with-a-long-name/config.json", "{}");
    for at in 0..number {
        let name = format!("model/a-directory/with-a-long-name/model-{at:05}-of-{number:05}.safetensors");
        write_large(&sandbox.file(&name), 1 << 20, at);
    }
    sandbox
}

fn push(sandbox: &Sandbox, registry: &FaultProxy, more: &[&str]) -> Command {
    let name = format!("{}/team/model:1", registry.addr());
    let push = ["build", "--push", "-t", &name, "--tls-verify=false", "--layer-file-size=1MiB", "--jobs=64"];
    sandbox.command(&[&push[..], more, &["context"]].concat())
}

#[test]
fn every_line_fits_a_terminal_of_any_width() {
    for columns in [40, 80, 120, 200] {
        let (registry, sandbox) = (Registry::start(), layers(6));
        let seen =
            at_terminal(&mut push(&sandbox, &slow(&registry, Duration::from_millis(700)), &[]), 24, columns);
        assert_eq!(seen.code, Some(0), "{}", seen.raw);
        assert!(seen.most_under_way() > 1, "{columns}: {}", seen.raw);
        let totals = seen.totals();
        let total = totals.iter().max_by_key(|row| row.len()).unwrap();
        assert!(total.contains('%') && total.contains(" of 6."), "{columns}: {total}");
        assert_eq!(total.contains("layers"), columns > 40, "{columns}: {total}");
        // What stays is a line for each layer, and no more.
        let last = seen.screens.last().unwrap();
        let rows: Vec<_> = last.iter().filter(|row| !row.trim().is_empty()).collect();
        assert_eq!(rows.len(), 7, "{columns}: {rows:#?}");
        assert!(rows.iter().all(|row| row.contains("sent")), "{columns}: {rows:#?}");
    }
}

#[test]
fn a_hundred_layers_fit_a_small_terminal() {
    let registry = Registry::start();
    let sandbox = layers(100);
    let seen = at_terminal(&mut push(&sandbox, &slow(&registry, Duration::from_secs(1)), &[]), 24, 80);
    assert_eq!(seen.code, Some(0), "{}", seen.raw);
    assert!((15..=22).contains(&seen.most_under_way()), "{}", seen.most_under_way());
    assert!(seen.totals().iter().any(|row| row.contains(" more")), "{:#?}", seen.totals());
    assert!(seen.totals().iter().any(|row| row.contains(" of 100 layers")), "{:#?}", seen.totals());
}

#[test]
fn a_terminal_that_cannot_move_its_cursor_gets_lines_of_a_log() {
    for (term, style) in [(Some("dumb"), "auto"), (None, "auto"), (Some("dumb"), "tty"), (Some(""), "tty")] {
        let registry = Registry::start();
        let sandbox = Sandbox::small();
        let seen =
            at_any_terminal(&mut push(&sandbox, &registry.proxy(), &["--progress", style]), term, 24, 200);
        assert_eq!(seen.code, Some(0), "{}", seen.raw);
        assert!(seen.raw.contains("[1/1] COPY model /models: sending ("), "{term:?} {style}: {}", seen.raw);
        assert!(!seen.raw.contains('\u{1b}'), "{term:?} {style}: {:?}", seen.raw);
    }
    // A pipe is no terminal, whatever is asked for.
    let run = Sandbox::small().build(&["--progress=tty"]).done();
    assert!(run.stderr.contains("[1/1] COPY model /models: "), "{run}");
}

#[test]
fn a_files_name_moves_no_cursor_on_a_terminal() {
    let sandbox = Sandbox::small();
    let name = "weights-\x1b]0;owned\x07\x1b[31m.bin";
    write_large(&sandbox.context().join("model").join(name), 2 << 20, 1);
    let build = ["build", "--layer-file-size=1MiB", "-o", "oci:out:m", "context"];
    let crossdock = env!("CARGO_BIN_EXE_crossdock");
    let mut command = sandbox.command_of("sh");
    // The report comes to the terminal as well.
    command.args(["-c", "exec \"$0\" \"$@\" >&2", crossdock, "--log-level", "trace"]).args(build);
    let seen = at_any_terminal(&mut command, Some("xterm-256color"), 24, 200);
    assert_eq!(seen.code, Some(0), "{}", seen.raw);
    assert!(seen.raw.contains("weights-\\u{1b}]0;owned\\u{7}\\u{1b}[31m.bin"), "{:?}", seen.raw);
    assert!(!seen.raw.contains("\x1b]") && !seen.raw.contains('\x07'), "{:?}", seen.raw);
    assert!(!seen.raw.contains("\x1b[31m.bin"), "{:?}", seen.raw);
}

#[test]
fn colors_are_left_out_where_nobody_wants_them() {
    for (value, colored) in [("1", false), ("", true)] {
        let registry = Registry::start();
        let sandbox = layers(2);
        let proxy = slow(&registry, Duration::from_millis(500));
        let mut command = push(&sandbox, &proxy, &[]);
        let seen = at_terminal(command.env("NO_COLOR", value), 24, 120);
        assert_eq!(seen.code, Some(0), "{}", seen.raw);
        assert!(seen.totals().len() > 1);
        assert_eq!(seen.raw.contains("\u{1b}[36m"), colored, "NO_COLOR={value:?}: {:?}", seen.raw);
    }
}
