//! What proxies have answered from what they keep, and how stale that was.

use serde::Serialize;

/// The answers of a sweep's runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Kept {
    answers: u64,
    /// That which came nearest to what is allowed.
    stalest: Option<Stalest>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Stalest {
    scenario: String,
    seed: u64,
    ms: u64,
    allowed_ms: u64,
}

impl Kept {
    /// Those of one run, the stalest of them, and how stale it might have been, in virtual milliseconds.
    pub fn add(&mut self, scenario: &str, seed: u64, answers: u64, ms: u64, allowed_ms: u64) {
        if answers == 0 {
            return;
        }
        self.answers += answers;
        // By the share of what is allowed.
        let staler = |other: &Stalest| ms * other.allowed_ms > other.ms * allowed_ms;
        if self.stalest.as_ref().is_none_or(staler) {
            self.stalest = Some(Stalest { scenario: scenario.to_owned(), seed, ms, allowed_ms });
        }
    }

    /// All of it in one line; nothing without answers.
    pub fn line(&self) -> String {
        self.stalest.as_ref().map_or_else(String::new, |Stalest { scenario, seed, ms, allowed_ms }| {
            format!(
                "answers that proxies kept: {}, the stalest {ms} of at most {allowed_ms} ms behind ({scenario} {seed})\n",
                self.answers
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stalest_is_the_one_nearest_to_what_is_allowed() {
        let mut kept = Kept::default();
        kept.add("calm", 0, 0, 0, 0);
        assert_eq!(kept.line(), "");
        kept.add("proxy", 1, 10, 0, 500);
        kept.add("proxy", 2, 20, 400, 500);
        kept.add("proxy", 3, 30, 700, 2_000);
        assert_eq!(kept.line(), "answers that proxies kept: 60, the stalest 400 of at most 500 ms behind (proxy 2)\n");
    }
}
