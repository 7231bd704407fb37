//! Which failures are the same.
//!
//! A plan that is made smaller has other operations at other times, so the message of its violation has other numbers.
//! What stays is the judge, and what it claims:
//!
//! ```text
//!   stale read: #450 (client 10 at member 3.0, …) range "k010" -> …         linearizable: stale read
//!   the entry at index 1160 differs: member 1 applied …                     replicas: the entry at index differs
//!   #12 (client 1 …) range "k003" -> …: count is 1, should be 0             linearizable: an answer
//!   member 2 has stopped: segment 7: torn                                   alive: member has stopped: segment: torn
//!   index 3 is gone (at core/src/wal/mod.rs:104:13)                         panic: core/src/wal/mod.rs:104:13
//! ```
//!
//! A judge's claim ends at its first colon, where the particulars begin: two stale reads are one failure, whoever read
//! whatever. Where a member tells why it stopped, the reason is the claim. A panic is its place in the source, since
//! its message may hold anything.

use std::fmt;

use crate::outcome::Violation;

/// What stays the same of a violation when its plan is made smaller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fingerprint {
    /// The judge.
    pub judge: &'static str,
    /// What it claims, without particulars.
    pub claim: String,
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.judge, self.claim)
    }
}

impl Fingerprint {
    /// The fingerprint of a violation.
    pub fn of(violation: &Violation) -> Fingerprint {
        let Violation { judge, message } = violation;
        let claim = match *judge {
            "panic" => place(message).unwrap_or_else(|| general(message)),
            "alive" | "recovery" => general(message),
            _ if message.starts_with('#') => "an answer".to_owned(),
            _ => general(message.split(": ").next().unwrap_or_default()),
        };
        Fingerprint { judge, claim }
    }

    /// Whether one of these violations has it.
    pub fn is_among(&self, violations: &[Violation]) -> bool {
        violations.iter().any(|violation| Fingerprint::of(violation) == *self)
    }
}

/// Where the first panic was.
fn place(message: &str) -> Option<String> {
    let (_, rest) = message.split_once(" (at ")?;
    rest.split_once(')').map(|(place, _)| place.to_owned())
}

/// The words that are about no one thing: without numbers, names and whatever else is quoted.
fn general(text: &str) -> String {
    let words = text.split_whitespace().filter_map(|word| {
        let particular = word.contains(|c: char| c.is_ascii_digit() || c == '"' || c == '`');
        // The colon after a number still parts what is before it from what is behind.
        match (particular, word.ends_with(':')) {
            (false, _) => Some(word.to_owned()),
            (true, true) => Some(":".to_owned()),
            (true, false) => None,
        }
    });
    words.collect::<Vec<_>>().join(" ").replace(" :", ":")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(judge: &'static str, message: &str) -> String {
        Fingerprint::of(&Violation { judge, message: message.to_owned() }).to_string()
    }

    #[test]
    fn two_stale_reads_are_one_failure_whoever_read_whatever() {
        let one = "stale read: #450 (client 10 at member 3.0, 1761.415..1917.561 ms) range \"k010\" -> revision 257, 0 of 0 \
                   keys shows the store at revision 257, but #446 (client 6 at member 1.0, 1750.468..1759.825 ms) put \
                   \"k009\" = #446 -> revision 258 had returned (revision 258, 10 compactions) before it was invoked";
        let other = "stale read: #3 (client 1 at member 2.1, 8.100..9.000 ms) range [\"k001\", \"k002\") by lease -> \
                     revision 5, 1 of 1 keys \"k001\"=#1@4 shows the store at revision 5, but #2 (client 2 at member 1.0, \
                     7.000..8.000 ms) delete \"k001\" -> revision 6, 1 deleted had returned (revision 6, 0 compactions) \
                     before it was invoked";
        assert_eq!(shown("linearizable", one), "linearizable: stale read");
        assert_eq!(shown("linearizable", other), "linearizable: stale read");
        assert_ne!(shown("serializable", one), shown("linearizable", one), "another guarantee is broken");
    }

    #[test]
    fn numbers_do_not_count_and_what_is_claimed_does() {
        let differs = |index: u64| format!("the entry at index {index} differs: member 1 applied operation #{index}");
        assert_eq!(shown("replicas", &differs(7)), "replicas: the entry at index differs");
        assert_eq!(shown("replicas", &differs(7)), shown("replicas", &differs(1160)));
        let twice = "revision 12 was made twice: by #3 (client 1) put and by #4 (client 2) put";
        let nobody = "revision 12 was produced by nobody: #3 (client 1) put would have changed nothing";
        assert_eq!(shown("linearizable", twice), "linearizable: revision was made twice");
        assert_ne!(shown("linearizable", twice), shown("linearizable", nobody));
        let answer =
            "#12 (client 1 at member 1.0, 1.000..2.000 ms) range \"k003\" -> revision 9: count is 1, should be 0";
        assert_eq!(shown("linearizable", answer), "linearizable: an answer");
    }

    #[test]
    fn members_that_stop_for_different_reasons_are_different_failures() {
        let torn = shown("recovery", "member 2 cannot start (life 3): segment 7: checksum mismatch at offset 4096");
        let other = shown("recovery", "member 1 cannot start (life 1): segment 2: checksum mismatch at offset 128");
        let missing = shown("recovery", "member 2 cannot start (life 3): `snapshot-9` is missing");
        assert_eq!(torn, other);
        assert_ne!(torn, missing);
    }

    #[test]
    fn a_panic_is_its_place() {
        let at = |line: u32, index: u32| {
            let message =
                format!("index {index} is gone (at core/src/wal/mod.rs:{line}:13); then it was dropped (at x.rs:1:1)");
            shown("panic", &message)
        };
        assert_eq!(at(104, 3), "panic: core/src/wal/mod.rs:104:13");
        assert_eq!(at(104, 3), at(104, 4));
        assert_ne!(at(104, 3), at(105, 3));
        assert_eq!(shown("panic", "a panic 3 without a place"), "panic: a panic without a place");
    }
}
