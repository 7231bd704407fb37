//! Sequences of requests, each on new servers with empty stores.

use std::fmt;

use seedbed_sim::history::{Outcome, Request};
use seedbed_sim::rng::{Draw, stream};
use seedbed_sim::shrink::{shortest, simplest};
use tokio::runtime::Runtime;

use crate::generator::Generator;
use crate::parties::{Difference, Model, Parties};
use crate::server::Program;
use crate::shown::Shown;
use crate::simpler::simpler;

/// Requests of a sequence. Short ones begin anew often, and shrink fast; a few are long enough for a store with a past.
const SHORT: u64 = 200;
const LONG: u64 = 2000;
const LONG_PERMILLE: u32 = 40;

/// All sequences of a seed.
pub(crate) struct Sequences {
    seed: u64,
    ours: Program,
    model: fn() -> Model,
    runtime: Runtime,
}

/// A sequence whose last request was not answered alike.
pub(crate) struct Failure {
    pub(crate) requests: Vec<Request>,
    pub(crate) difference: Difference,
}

impl Sequences {
    /// Those of a seed, for one of our programs; `model` makes the model in its first state.
    pub(crate) fn new(seed: u64, ours: Program, model: fn() -> Model) -> Self {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime of this thread");
        Sequences { seed, ours, model, runtime }
    }

    /// Plays the sequence with this number, of at most so many requests. Returns the kind of each request and the answer.
    ///
    /// # Errors
    /// The requests up to the first that was not answered alike.
    pub(crate) fn play(
        &mut self,
        number: u64,
        requests_max: u64,
    ) -> Result<Vec<(&'static str, Outcome)>, Box<Failure>> {
        let long = stream(self.seed, "length", number).chance(LONG_PERMILLE);
        let length = requests_max.min(if long { LONG } else { SHORT });
        let mut generator = Generator::new(self.seed, number);
        self.runtime.block_on(async {
            let mut parties = Parties::start(self.ours.clone(), (self.model)()).await;
            let mut requests = Vec::new();
            let mut outcomes = Vec::new();
            for _ in 0..length {
                let request = generator.request();
                requests.push(request.clone());
                match parties.ask(&request).await {
                    Ok(outcome) => {
                        generator.saw(&request, &outcome);
                        outcomes.push((kind(&request), outcome));
                    }
                    Err(difference) => return Err(Box::new(Failure { requests, difference: *difference })),
                }
            }
            Ok(outcomes)
        })
    }

    /// Fewer and simpler requests that are not answered alike either.
    pub(crate) fn shrink(&mut self, failure: Failure) -> Failure {
        println!("a sequence of {} requests failed; shrinking it\n{}", failure.requests.len(), failure.difference);
        let mut tries = 0;
        let mut fails = |requests: &[Request]| {
            tries += 1;
            self.replay(requests).is_some()
        };
        let mut smallest = failure.requests;
        loop {
            let shorter = shortest(&smallest, &mut fails);
            let simpler = simplest(&shorter, simpler, &mut fails);
            // A request that is simpler may need fewer others.
            if simpler == smallest {
                break;
            }
            smallest = simpler;
        }
        let failure = self.replay(&smallest).expect("it has just failed");
        println!("shrunk to {} requests in {tries} tries", failure.requests.len());
        failure
    }

    /// Plays requests up to the first that is not answered alike.
    fn replay(&self, requests: &[Request]) -> Option<Failure> {
        self.runtime.block_on(async {
            let mut parties = Parties::start(self.ours.clone(), (self.model)()).await;
            for (place, request) in requests.iter().enumerate() {
                if let Err(difference) = parties.ask(request).await {
                    return Some(Failure { requests: requests[..=place].to_vec(), difference: *difference });
                }
            }
            None
        })
    }
}

fn kind(request: &Request) -> &'static str {
    match request {
        Request::Range(_) => "range",
        Request::Put(_) => "put",
        Request::DeleteRange(_) => "delete-range",
        Request::Txn(_) => "txn",
        Request::Compact(_) => "compact",
        Request::LeaseGrant(_) => "lease-grant",
        Request::LeaseRevoke(_) => "lease-revoke",
        Request::LeaseKeepAlive(_) => "keep-alive",
        Request::LeaseTimeToLive(_) => "time-to-live",
        Request::LeaseLeases(_) => "leases",
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for request in &self.requests {
            writeln!(f, "{}", Shown(request))?;
        }
        write!(f, "{}", self.difference)
    }
}
