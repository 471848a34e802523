//! The ports of EXPOSE.

/// `port[-port][/protocol]` as the config lists it, a range port by port.
pub(super) fn parse(text: &str) -> Result<Vec<String>, String> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    if !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
        return Err(format!("{protocol:?} is not a protocol"));
    }
    if ports.contains(':') {
        return Err("a host port belongs to the command that runs the container".to_owned());
    }
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err("the range runs backwards".to_owned());
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

fn port(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port > 0).ok_or_else(|| format!("{text:?} is not a port"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_ranges() {
        for (text, expected) in [
            ("80", Ok(vec!["80/tcp"])),
            ("53/UDP", Ok(vec!["53/udp"])),
            ("8000-8002/sctp", Ok(vec!["8000/sctp", "8001/sctp", "8002/sctp"])),
            ("0", Err("\"0\" is not a port")),
            ("+1", Err("\"+1\" is not a port")),
            ("65536", Err("\"65536\" is not a port")),
            ("9-8", Err("the range runs backwards")),
            ("80/http", Err("\"http\" is not a protocol")),
            ("80:80", Err("a host port belongs to the command that runs the container")),
            ("http", Err("\"http\" is not a port")),
        ] {
            let expected = expected
                .map(|ports: Vec<&str>| ports.into_iter().map(str::to_owned).collect::<Vec<_>>())
                .map_err(str::to_owned);
            assert_eq!(parse(text), expected, "{text}");
        }
    }
}
