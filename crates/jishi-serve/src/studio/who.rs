//! Who asks, and what they may do.

use std::net::SocketAddr;

use axum::http::{HeaderMap, header};

use crate::keys::Key;

/// Whether a request may start, pause, stop and try: the one place that says so. It shows a key that has the studio. Where
/// there are no keys, it comes from this machine, to a name of this machine (a page of elsewhere could have its own name
/// lead here), and no other server passed it on.
#[must_use]
pub fn may_act(peer: Option<SocketAddr>, headers: &HeaderMap, key: Option<&Key>) -> bool {
    if let Some(key) = key {
        return key.has_studio();
    }
    let here = peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback());
    let passed_on = ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip"];
    here && named_here(headers) && !passed_on.iter().any(|name| headers.contains_key(*name))
}

/// Whether the name that was asked for is one of this machine.
fn named_here(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|h| h.to_str().ok()) else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let name = name.to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether a request to a server's studio may look: as [`may_act`].
#[must_use]
pub fn may_look(peer: Option<SocketAddr>, headers: &HeaderMap, key: Option<&Key>, everyone: bool) -> bool {
    everyone || may_act(peer, headers, key)
}

/// A secret of this process.
#[must_use]
pub fn token() -> String {
    // Nobody can act where nobody can know the secret.
    crate::keys::secret().map_or_else(|_| String::new(), |bytes| jishi_runs::folder::hex(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    #[test]
    fn only_this_machine_acts() {
        let ask = |peer: &str, host: &str, extra: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(name) = extra {
                headers.insert(name, HeaderValue::from_static("1.2.3.4"));
            }
            may_act(Some(peer.parse().unwrap()), &headers, None)
        };
        assert!(ask("127.0.0.1:5", "127.0.0.1:8001", None) && ask("[::1]:5", "[::1]:8001", None));
        assert!(ask("127.0.0.1:5", "localhost", None) && ask("[::ffff:127.0.0.1]:5", "LOCALHOST:1", None));
        assert!(!ask("10.0.0.2:5", "127.0.0.1:8001", None), "from elsewhere");
        assert!(!ask("127.0.0.1:5", "evil.example:8001", None), "a name that was led here");
        assert!(!ask("127.0.0.1:5", "localhost.evil.example", None));
        assert!(!ask("127.0.0.1:5", "localhost", Some("x-forwarded-for")), "passed on");
        assert!(!may_act(None, &HeaderMap::new(), None));
        assert_eq!(token().len(), 64);
        assert_ne!(token(), token());
    }
}
