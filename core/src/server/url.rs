//! The URLs of etcd's flags: a scheme, a host and a port.

use std::fmt;
use std::net::IpAddr;

/// Where something listens, or can be found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Url {
    /// Without the brackets of an IPv6 address.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Url {
    /// Reads one.
    ///
    /// # Errors
    /// One line that says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Url, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(format!("URL {text:?} does not begin with http://"));
        };
        match scheme {
            "http" => {}
            "https" => return Err(format!("URL {text:?}: this server does not speak TLS yet, use http")),
            "unix" | "unixs" => return Err(format!("URL {text:?}: this server has no Unix sockets, use http")),
            _ => return Err(format!("URL scheme {scheme:?} of {text:?} is unknown, use http")),
        }
        if rest.contains(['/', '?', '#', '@']) {
            return Err(format!("URL {text:?} must have a host and a port and nothing else"));
        }
        let no_address = || format!("URL {text:?} does not have the form http://host:port");
        let (host, port) = rest.rsplit_once(':').ok_or_else(no_address)?;
        let host = match host.strip_prefix('[').map(|host| host.strip_suffix(']')) {
            Some(Some(host)) if host.parse::<std::net::Ipv6Addr>().is_ok() => host,
            None if !host.is_empty() && !host.contains(':') => host,
            _ => return Err(no_address()),
        };
        let port = port.parse().map_err(|_| no_address())?;
        Ok(Url { host: host.to_owned(), port })
    }

    /// Reads a list, separated by commas.
    pub(super) fn parse_list(text: &str) -> Result<Vec<Url>, String> {
        text.split(',').map(|url| Url::parse(url.trim())).collect()
    }

    /// Refuses a URL that names a host where an address is needed, as etcd does: what the name stands for may change.
    pub(super) fn check_address(&self) -> Result<(), String> {
        if self.host == "localhost" || self.host.parse::<IpAddr>().is_ok() {
            Ok(())
        } else {
            Err(format!("expected IP in URL for binding ({self})"))
        }
    }

    /// As `host:port`.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_read_back_as_they_were_written() {
        for text in ["http://localhost:2379", "http://10.0.0.1:1", "http://[::1]:65535", "http://node-1.example:2380"] {
            assert_eq!(Url::parse(text).unwrap().to_string(), text);
        }
        let list = Url::parse_list("http://a:1,http://b:2").unwrap();
        assert_eq!(list.iter().map(Url::authority).collect::<Vec<_>>(), ["a:1", "b:2"]);
    }

    #[test]
    fn what_is_not_a_host_and_a_port_is_refused() {
        let bad = [
            "",
            "localhost:2379",
            "http://",
            "http://localhost",
            "http://:2379",
            "http://a:b",
            "http://a:65536",
            "http://::1:2379",
            "http://[::1",
            "http://[a]:1",
            "http://a:1/",
            "http://a:1/path",
            "http://u@a:1",
            "https://a:1",
            "unix://a:1",
            "ftp://a:1",
        ];
        for text in bad {
            let line = Url::parse(text).expect_err(text);
            assert!(!line.contains('\n') && line.contains(text), "{line}");
        }
    }

    #[test]
    fn names_are_not_listened_on() {
        assert!(Url::parse("http://localhost:1").unwrap().check_address().is_ok());
        assert!(Url::parse("http://[::]:1").unwrap().check_address().is_ok());
        let line = Url::parse("http://node-1:1").unwrap().check_address().unwrap_err();
        assert_eq!(line, "expected IP in URL for binding (http://node-1:1)");
    }
}
