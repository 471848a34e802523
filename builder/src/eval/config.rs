//! The instructions that only change the config.

use crossdock_storage::HealthConfig;
use serde_json::Map;

use super::{Stage, ports};
use crate::containerfile::{CommandForm, Healthcheck, HealthcheckInstruction, KeyValue, Spanned};
use crate::error::Error;
use crate::plan::set_env;

/// What a shell form runs in where no SHELL says otherwise.
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// Linux's signals by name.
const SIGNALS: &str = "ABRT ALRM BUS CHLD CLD CONT FPE HUP ILL INT IO IOT KILL PIPE POLL PROF PWR QUIT RTMAX RTMIN SEGV \
                       STKFLT STOP SYS TERM TRAP TSTP TTIN TTOU URG USR1 USR2 VTALRM WINCH XCPU XFSZ";

impl Stage<'_> {
    pub(super) fn cmd(&mut self, command: &CommandForm) {
        self.built.config.config.cmd = self.command(command);
        self.cmd_set = true;
    }

    /// ENTRYPOINT drops the CMD of the base, which was meant for another command; one of this stage stays.
    pub(super) fn entrypoint(&mut self, command: &CommandForm) {
        self.built.config.config.entrypoint = self.command(command);
        if !self.cmd_set {
            self.built.config.config.cmd = None;
        }
    }

    /// The words of a command; `None` for the empty list, as it is left out of the config then.
    fn command(&self, command: &CommandForm) -> Option<Vec<String>> {
        match command {
            CommandForm::Exec(words) if words.is_empty() => None,
            CommandForm::Exec(words) => Some(words.iter().map(|word| word.value.clone()).collect()),
            CommandForm::Shell(text) => {
                let mut words = match &self.built.config.config.shell {
                    Some(shell) if !shell.is_empty() => shell.clone(),
                    _ => DEFAULT_SHELL.map(str::to_owned).to_vec(),
                };
                words.push(text.value.clone());
                Some(words)
            }
        }
    }

    pub(super) fn env(&mut self, pairs: &[KeyValue]) -> Result<(), Error> {
        for (name, value) in self.pairs(pairs)? {
            set_env(&mut self.built.config.config.env, &name, &value);
            self.scope.set_env(&name, &value);
        }
        Ok(())
    }

    pub(super) fn label(&mut self, pairs: &[KeyValue]) -> Result<(), Error> {
        let pairs = self.pairs(pairs)?;
        self.built.config.config.labels.extend(pairs);
        Ok(())
    }

    /// All pairs of an instruction see the variables as they were before it.
    fn pairs(&mut self, pairs: &[KeyValue]) -> Result<Vec<(String, String)>, Error> {
        pairs
            .iter()
            .map(|pair| {
                let name = self.word(&pair.key)?;
                if name.is_empty() {
                    return Err(
                        self.invalid(pair.key.span, "the name is empty once its variables are put in")
                    );
                }
                Ok((name, self.word(&pair.value)?))
            })
            .collect()
    }

    pub(super) fn expose(&mut self, words: &[Spanned<String>]) -> Result<(), Error> {
        let mut some = false;
        for word in words {
            let expanded = self.scope.words(word).map_err(Error::Value)?;
            for text in self.expanded(expanded) {
                some = true;
                let ports = ports::parse(&text).map_err(|reason| {
                    self.invalid_with_help(
                        word.span,
                        &format!("EXPOSE {text}: {reason}"),
                        "write a port or a range from 1 to 65535, with /tcp, /udp or /sctp behind it or nothing",
                    )
                })?;
                let bytes = ports.iter().map(String::len).sum();
                self.scope.spend(bytes, word.span).map_err(Error::Value)?;
                let exposed = &mut self.built.config.config.exposed_ports;
                exposed.extend(ports.into_iter().map(|port| (port, Map::new())));
            }
        }
        match words {
            [first, ..] if !some => {
                Err(self.invalid(first.span, "EXPOSE has no port once its variables are put in"))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn volume(&mut self, paths: &[Spanned<String>]) -> Result<(), Error> {
        for path in paths {
            let text = self.word(path)?;
            let text = text.trim();
            if text.is_empty() {
                return Err(self.invalid(path.span, "VOLUME needs a path"));
            }
            self.built.config.config.volumes.insert(text.to_owned(), Map::new());
        }
        Ok(())
    }

    pub(super) fn user(&mut self, user: &Spanned<String>) -> Result<(), Error> {
        let text = self.word(user)?;
        if text.is_empty() {
            return Err(self.invalid(user.span, "USER needs a user"));
        }
        self.built.config.config.user = text;
        Ok(())
    }

    pub(super) fn stop_signal(&mut self, signal: &Spanned<String>) -> Result<(), Error> {
        let text = self.word(signal)?;
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        let real_time = ["RTMIN+", "RTMAX-"]
            .iter()
            .find_map(|prefix| name.strip_prefix(prefix))
            .is_some_and(|offset| offset.parse::<u8>().is_ok_and(|offset| (1..=15).contains(&offset)));
        let number = text.parse::<u8>().is_ok_and(|number| (1..=64).contains(&number));
        if !number && !real_time && !SIGNALS.split(' ').any(|known| known == name) {
            return Err(self.invalid_with_help(
                signal.span,
                &format!("STOPSIGNAL {text:?} is no signal"),
                "write a name such as SIGTERM or a number from 1 to 64",
            ));
        }
        self.built.config.config.stop_signal = Some(text);
        Ok(())
    }

    pub(super) fn healthcheck(&mut self, healthcheck: &HealthcheckInstruction) {
        let test = match &healthcheck.check {
            Healthcheck::None => vec!["NONE".to_owned()],
            Healthcheck::Command(CommandForm::Shell(text)) => {
                vec!["CMD-SHELL".to_owned(), text.value.clone()]
            }
            Healthcheck::Command(CommandForm::Exec(words)) => {
                std::iter::once("CMD".to_owned()).chain(words.iter().map(|word| word.value.clone())).collect()
            }
        };
        // Zero is the default, which Docker leaves out.
        let nanoseconds = |duration: &Option<Spanned<std::time::Duration>>| {
            let duration = duration.as_ref().filter(|duration| !duration.value.is_zero())?;
            Some(i64::try_from(duration.value.as_nanos()).unwrap_or(i64::MAX))
        };
        self.built.config.config.healthcheck = Some(HealthConfig {
            test,
            interval: nanoseconds(&healthcheck.interval),
            timeout: nanoseconds(&healthcheck.timeout),
            start_period: nanoseconds(&healthcheck.start_period),
            start_interval: nanoseconds(&healthcheck.start_interval),
            retries: healthcheck.retries.as_ref().map(|r| i64::from(r.value)).filter(|retries| *retries > 0),
        });
    }
}
