//! Which hosts are reached without a proxy: `no_proxy`, by the rules of Go's `golang.org/x/net/http/httpproxy`, which
//! podman, buildah, skopeo and docker have.

use std::net::IpAddr;

/// The rules of a `no_proxy`.
#[derive(Debug, Default)]
pub(crate) struct NoProxy(Vec<Rule>);

#[derive(Debug)]
enum Rule {
    /// `*`.
    All,
    /// `10.0.0.0/8`.
    Network(IpAddr, u8),
    Address(IpAddr, Option<u16>),
    /// `example.com`, which is for all below it too, or `.example.com`, which is for those alone.
    Domain {
        /// With a dot before it.
        suffix: String,
        itself: bool,
        port: Option<u16>,
    },
}

impl NoProxy {
    /// The rules in a comma-separated list; what is no rule counts for nothing.
    pub(crate) fn parse(list: &str) -> Self {
        Self(list.split(',').filter_map(|item| Rule::parse(&item.trim().to_lowercase())).collect())
    }

    /// Whether a host is reached without a proxy. This machine itself always is.
    pub(crate) fn covers(&self, host: &str, port: u16) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']').to_lowercase();
        let address = host.parse::<IpAddr>().ok();
        if host == "localhost" || address.is_some_and(|address| address.to_canonical().is_loopback()) {
            return true;
        }
        self.0.iter().any(|rule| rule.covers(&host, address, port))
    }
}

impl Rule {
    fn parse(item: &str) -> Option<Self> {
        if item == "*" {
            return Some(Self::All);
        }
        if let Some((address, bits)) = item.split_once('/') {
            let address: IpAddr = address.parse().ok()?;
            let bits: u8 = bits.parse().ok()?;
            return (bits <= if address.is_ipv4() { 32 } else { 128 })
                .then_some(Self::Network(address, bits));
        }
        let (host, port) = split(item)?;
        if host.is_empty() {
            return None;
        }
        if let Ok(address) = host.parse() {
            return Some(Self::Address(address, port));
        }
        let host = host.strip_prefix('*').filter(|rest| rest.starts_with('.')).unwrap_or(host);
        let itself = !host.starts_with('.');
        let suffix = if itself { format!(".{host}") } else { host.to_owned() };
        Some(Self::Domain { suffix, itself, port })
    }

    fn covers(&self, host: &str, address: Option<IpAddr>, port: u16) -> bool {
        let port_fits = |wanted: &Option<u16>| wanted.is_none_or(|wanted| wanted == port);
        match (self, address) {
            (Self::All, _) => true,
            (Self::Network(network, bits), Some(address)) => is_within(address, *network, *bits),
            (Self::Address(one, wanted), Some(address)) => {
                one.to_canonical() == address.to_canonical() && port_fits(wanted)
            }
            (Self::Domain { suffix, itself, port: wanted }, None) => {
                (host.ends_with(suffix) || (*itself && host == &suffix[1..])) && port_fits(wanted)
            }
            _ => false,
        }
    }
}

/// Host and port of an item; `None` where the port is no number. An IPv6 address need not stand in brackets.
fn split(item: &str) -> Option<(&str, Option<u16>)> {
    if let Some((host, rest)) = item.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return match rest.strip_prefix(':') {
            Some(port) => Some((host, Some(port.parse().ok()?))),
            None => Some((host, None)),
        };
    }
    match item.split_once(':') {
        Some((host, port)) if !port.contains(':') => Some((host, Some(port.parse().ok()?))),
        _ => Some((item, None)),
    }
}

fn is_within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    // The bits of the larger kind, the address at their upper end.
    let upper = |address: IpAddr| match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let (address, network) = (address.to_canonical(), network.to_canonical());
    address.is_ipv4() == network.is_ipv4()
        && (upper(address) ^ upper(network)).checked_shr(128 - u32::from(bits)).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows are those of Go's own tests (`TestUseProxy`, `TestIPv6`, `TestNoProxyPort`) and of their neighbours.
    #[test]
    fn the_rules_are_gos() {
        for (list, host, port, covered) in [
            ("", "localhost", 80, true),
            ("", "127.0.0.1", 80, true),
            ("", "127.0.0.2", 80, true),
            ("", "[::1]", 80, true),
            ("", "[::2]", 80, false),
            ("", "example.com", 80, false),
            ("*", "example.com", 80, true),
            ("*", "10.1.2.3", 80, true),
            ("a.test, *", "b.test", 1, true),
            ("example.com", "example.com", 80, true),
            ("example.com", "www.example.com", 80, true),
            ("EXAMPLE.com", "www.example.COM", 80, true),
            ("example.com", "notexample.com", 80, false),
            (".example.com", "example.com", 80, false),
            (".example.com", "www.example.com", 80, true),
            ("*.example.com", "example.com", 80, false),
            ("*.example.com", "a.b.example.com", 80, true),
            ("host:5000", "host", 5000, true),
            ("host:5000", "host", 5001, false),
            ("host:5000", "a.host", 5000, true),
            (".svc:5000", "r.ns.svc", 5000, true),
            (".svc:5000", "r.ns.svc", 443, false),
            ("host:443", "host", 443, true),
            ("host:http", "host", 80, false),
            (":5000", "host", 5000, false),
            ("10.0.0.0/8", "10.1.2.3", 80, true),
            ("10.0.0.0/8", "11.1.2.3", 80, false),
            ("10.0.0.0/8", "10.example.com", 80, false),
            ("0.0.0.0/0", "11.1.2.3", 80, true),
            ("0.0.0.0/0", "[2001:db8::1]", 80, false),
            ("192.168.1.1/32", "192.168.1.1", 80, true),
            ("192.168.1.1/32", "192.168.1.2", 80, false),
            ("192.168.1.1/33", "192.168.1.1", 80, false),
            ("2001:db8::/52", "[2001:db8::1]", 80, true),
            ("2001:db8::/52", "[2001:db9::1]", 80, false),
            ("::/0", "[2001:db9::1]", 80, true),
            ("10.1.2.3", "10.1.2.3", 80, true),
            ("10.1.2.3:8080", "10.1.2.3", 8080, true),
            ("10.1.2.3:8080", "10.1.2.3", 80, false),
            ("[2001:db8::52:0:1]:443", "[2001:db8::52:0:1]", 443, true),
            ("[2001:db8::52:0:1]:443", "[2001:db8::52:0:1]", 80, false),
            ("2001:db8::52:0:1", "[2001:db8::52:0:1]", 80, true),
            ("1.2.3", "10.1.2.3", 80, false),
            ("a.test,,  b.test ", "b.test", 80, true),
        ] {
            assert_eq!(NoProxy::parse(list).covers(host, port), covered, "{list:?} for {host}:{port}");
        }
    }
}
