//! Who is asked, side by side.

use std::fmt;

use futures_util::future::{OptionFuture, join};
use seedbed_proto::etcdserverpb::WatchCreateRequest;
use seedbed_sim::history::{Outcome, Request};
use seedbed_sim::model::Kv;

use crate::deviations::{Answer, expected, settle_leases, settle_ties};
use crate::grpc::{ask, without_identity};
use crate::server::{Program, Server};
use crate::shown::Shown;
use crate::watches::Watches;

/// What a model answers.
pub(crate) type Model = Box<dyn FnMut(&Request) -> Outcome>;

/// Real etcd, which is right by definition, and those that are held against it. All start with an empty store.
pub(crate) struct Parties {
    etcd: Server,
    seedbed: Server,
    /// What differences call it.
    seedbed_name: &'static str,
    model: Model,
    /// What the store holds, for the deviations that depend on it.
    state: Kv,
}

/// An answer that is not the expected one.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) who: &'static str,
    pub(crate) expected: Outcome,
    pub(crate) got: Outcome,
    /// What the servers have said last.
    said: String,
}

impl Parties {
    /// Starts the servers: etcd, and ours.
    pub(crate) async fn start(ours: Program, model: Model) -> Parties {
        let seedbed_name = ours.name;
        let (etcd, seedbed) = join(Server::start(Program::etcd()), Server::start(ours)).await;
        Parties { etcd, seedbed, seedbed_name, model, state: Kv::following_leases() }
    }

    /// What the store holds.
    pub(crate) fn state(&self) -> &Kv {
        &self.state
    }

    /// A stream of watches at etcd, and one at the server, each with a first watch.
    pub(crate) async fn watch(&self, first: &WatchCreateRequest) -> [Watches; 2] {
        let etcd = Watches::open("etcd", self.etcd.channel.clone(), first.clone());
        let seedbed = Watches::open(self.seedbed_name, self.seedbed.channel.clone(), first.clone());
        let (etcd, seedbed) = join(etcd, seedbed).await;
        [etcd, seedbed]
    }

    /// Asks etcd and the server something of which the model does not hear.
    pub(crate) async fn ask_servers(&self, request: &Request) -> [Outcome; 2] {
        let (etcd, seedbed) = join(ask(&self.etcd.channel, request), ask(&self.seedbed.channel, request)).await;
        [etcd, seedbed].map(without_identity)
    }

    /// Asks all of them. What they agree on, in the server's words.
    ///
    /// # Errors
    /// The first answer that is not the expected one. The parties may then be in different states.
    pub(crate) async fn ask(&mut self, request: &Request) -> Result<Outcome, Box<Difference>> {
        let expected = expected(request, &self.state);
        let etcd = OptionFuture::from(expected.etcd.is_asked().then(|| ask(&self.etcd.channel, request)));
        let (etcd, seedbed) = join(etcd, ask(&self.seedbed.channel, request)).await;
        let plain = |outcome| {
            let mut outcome = without_identity(outcome);
            settle_leases(&mut outcome);
            outcome
        };
        let (etcd, seedbed) = (etcd.map(plain), plain(seedbed));
        let model = expected.model.is_asked().then(|| {
            let _ = self.state.answer(request);
            with_identity((self.model)(request))
        });

        let settled = |mut outcome: Outcome| {
            settle_ties(request, &mut outcome);
            outcome
        };
        let alike = matches!((&expected.server, &expected.model), (Answer::Etcds, Answer::Etcds));
        let answers = [
            ("etcd", expected.etcd, etcd.map(settled)),
            (self.seedbed_name, expected.server, Some(settled(seedbed.clone()))),
            ("the model", expected.model, model.clone().map(settled)),
        ];
        let etcds = answers[0].2.clone();
        for (who, expected, got) in answers {
            let Some(got) = got else { continue };
            let expected = match expected {
                Answer::Etcds => etcds.clone().expect("etcd is asked where it is the measure"),
                Answer::This(outcome) => outcome,
                Answer::Undecodable => undecodable(&got),
                Answer::Unasked => unreachable!("nobody answers who is not asked"),
            };
            if got != expected {
                return Err(self.difference(who, expected, got));
            }
        }
        match model {
            // Where etcd leaves something open, these two do not.
            Some(model) if alike && seedbed != model => Err(self.difference("ours beside the model", model, seedbed)),
            _ => Ok(seedbed),
        }
    }

    fn difference(&self, who: &'static str, expected: Outcome, got: Outcome) -> Box<Difference> {
        let said = format!("etcd said last:\n{}\nours said last:\n{}", self.etcd.said(), self.seedbed.said());
        Box::new(Difference { who, expected, got, said })
    }
}

/// The model knows no cluster: it is given the fields that name one.
fn with_identity(mut outcome: Outcome) -> Outcome {
    if let Outcome::Ok(response) = &mut outcome {
        let header = response.header_mut().get_or_insert_default();
        (header.cluster_id, header.member_id, header.raft_term) = (1, 1, 1);
    }
    outcome
}

/// The refusal of a request that cannot be decoded, where the rest of the text is left to the decoder.
fn undecodable(got: &Outcome) -> Outcome {
    const START: &str = "failed to decode Protobuf message: ";
    let message = match got {
        Outcome::Failed { message, .. } if message.starts_with(START) => message.clone(),
        _ => START.to_owned(),
    };
    Outcome::Failed { code: tonic::Code::Internal as i32, message }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { who, expected, got, said } = self;
        writeln!(f, "expected: {}", Shown(expected))?;
        writeln!(f, "{who}: {}", Shown(got))?;
        f.write_str(said)
    }
}
