//! A client: one operation at a time, each sent as encoded bytes to a member of its choice.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use rand_pcg::Pcg64;
use seedbed_core::api::{Context, OperationId};
use seedbed_core::raft::NodeId;

use crate::clock::true_now_ns;
use crate::history::{Ask, Outcome, Recorder, Request, Response, Server};
use crate::network::Network;
use crate::plan::WorkloadPlan;
use crate::rng::{self, Draw};
use crate::wire;
use crate::workload::Generator;

/// How long a client waits after an operation without an answer.
const BACKOFF: Duration = Duration::from_millis(30);

/// A client of the cluster.
pub struct Client {
    id: u32,
    members: u64,
    /// The member that it talks to: a client stays while it is answered, and moves on when it is not.
    member: NodeId,
    timeout: Duration,
    think_ms: [u64; 2],
    network: Network,
    rng: Pcg64,
    generator: Option<Generator>,
    recorder: Rc<RefCell<Recorder>>,
}

impl Client {
    /// The client of that number.
    pub fn new(
        id: u32,
        seed: u64,
        members: u64,
        plan: &WorkloadPlan,
        network: Network,
        recorder: Rc<RefCell<Recorder>>,
    ) -> Self {
        let mut rng = rng::stream(seed, "client", u64::from(id));
        let member = NodeId(rng.between(1, members));
        let generator = Some(Generator::new(rng::stream(seed, "workload", u64::from(id)), plan));
        let timeout = Duration::from_millis(plan.timeout_ms);
        Client { id, members, member, timeout, think_ms: plan.think_ms, network, rng, generator, recorder }
    }

    /// Carries out that many operations.
    pub async fn run(mut self, operations: u32) {
        for _ in 0..operations {
            self.operation().await;
            let [least, greatest] = self.think_ms;
            let pause = self.rng.between(least * 1000, greatest * 1000);
            madsim::time::sleep(Duration::from_micros(pause)).await;
        }
    }

    async fn operation(&mut self) {
        if self.rng.chance(100) {
            self.member = NodeId(self.rng.between(1, self.members));
        }
        // Taken out, so that it can be used while `ask` has the client.
        let mut generator = self.generator.take().expect("it is put back after each use");
        match self.ask(self.member, |operation| generator.ask(operation)).await {
            Outcome::Ok(response) => generator.saw(&response),
            Outcome::Failed { .. } => {}
            Outcome::Unknown => {
                self.member = NodeId(self.member.0 % self.members + 1);
                // Not to spend all operations on members that refuse at once.
                madsim::time::sleep(BACKOFF).await;
            }
        }
        self.generator = Some(generator);
    }

    /// Asks one member one thing, and records what came of it.
    pub async fn ask<A: Into<Ask>>(&mut self, member: NodeId, ask: impl FnOnce(u64) -> A) -> Outcome {
        let asked = Server { member: member.0, incarnation: 0 };
        let (token, method, body, context) = {
            let mut recorder = self.recorder.borrow_mut();
            let token = recorder.invoke(u64::from(self.id), asked, true_now_ns(), ask);
            let (method, body) = encode(recorder.request(&token));
            let context = Context { operation: OperationId(token.operation), path: Some(recorder.path(&token)) };
            (token, method, body, context)
        };
        let call = self.network.client_call(self.id, member, method, body, context);
        let answer = match madsim::time::timeout(self.timeout, call).await {
            Ok(Ok(reply)) => wire::decode(reply),
            _ => None,
        };
        let mut recorder = self.recorder.borrow_mut();
        let (server, outcome) = match answer {
            Some(answer) => {
                let server = Server { member: member.0, incarnation: u64::from(answer.incarnation) };
                let outcome = match answer.result {
                    Ok(body) => Outcome::Ok(decode(recorder.request(&token), body)),
                    Err((code, message)) => Outcome::of_status(code, &message),
                };
                (Some(server), outcome)
            }
            None => (None, Outcome::Unknown),
        };
        let operation = recorder.complete(token, server, outcome.clone(), true_now_ns());
        tracing::debug!("{operation}");
        outcome
    }
}

/// The method and the encoded form of a request.
pub fn encode(request: &Request) -> (&'static str, Bytes) {
    match request {
        Request::Range(message) => ("/etcdserverpb.KV/Range", message.encode_to_vec().into()),
        Request::Put(message) => ("/etcdserverpb.KV/Put", message.encode_to_vec().into()),
        Request::DeleteRange(message) => ("/etcdserverpb.KV/DeleteRange", message.encode_to_vec().into()),
        Request::Txn(message) => ("/etcdserverpb.KV/Txn", message.encode_to_vec().into()),
        Request::Compact(message) => ("/etcdserverpb.KV/Compact", message.encode_to_vec().into()),
    }
}

/// The response to a request, from its encoded form.
fn decode(request: &Request, body: Bytes) -> Response {
    fn message<M: Message + Default>(body: Bytes) -> M {
        M::decode(body).expect("the simulated network carries bytes whole, and the services encode what they answer")
    }
    match request {
        Request::Range(_) => Response::Range(message(body)),
        Request::Put(_) => Response::Put(message(body)),
        Request::DeleteRange(_) => Response::DeleteRange(message(body)),
        Request::Txn(_) => Response::Txn(message(body)),
        Request::Compact(_) => Response::Compact(message(body)),
    }
}
