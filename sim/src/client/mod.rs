//! A client: one operation at a time, each sent to a member of its choice, by one of the [ways](Way) in.

mod direct;
mod grpc;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use rand_pcg::Pcg64;
use seedbed_core::api::{Context, OperationId};
use seedbed_core::raft::NodeId;

use self::direct::Direct;
use self::grpc::Grpc;
use crate::clock::true_now_ns;
use crate::cluster::Roster;
use crate::history::{Ask, Outcome, Recorder, Request, Server};
use crate::network::Network;
use crate::plan::{Step, WorkloadPlan};
use crate::rng::{self, Draw};
use crate::workload::{Generator, Notes};

/// How long a client waits after an operation without an answer.
const BACKOFF: Duration = Duration::from_millis(30);

/// How a client reaches members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// As messages of the simulated network, straight to the services.
    Direct,
    /// As gRPC over HTTP/2, on connections.
    Grpc,
}

impl Way {
    /// The way of a client.
    pub fn of(client: u64, plan: &WorkloadPlan) -> Way {
        let prober = Role::Prober(Way::Grpc).number(plan);
        let grpc = client <= u64::from(plan.grpc_clients) || client == u64::from(prober);
        if grpc { Way::Grpc } else { Way::Direct }
    }
}

/// Beyond the numbers of others.
const WATCHERS: u32 = 1 << 20;
const CONTENDERS: u32 = 1 << 21;
const PROXIES: u32 = 1 << 22;

/// Clients beside those of a plan.
#[derive(Clone, Copy, Debug)]
pub enum Role {
    /// Sees to it in the end that the cluster serves, by this way.
    Prober(Way),
    /// Writes first when everything is healed.
    FirstWriter,
    /// Watches.
    Watcher {
        /// From 0.
        nth: u32,
    },
    /// Contends for locks and offices, or observes who holds them.
    Contender {
        /// From 0.
        nth: u32,
    },
    /// A proxy, as members know it.
    Proxy {
        /// From 0.
        nth: u32,
    },
    /// Writes what all watchers are told last.
    LastWriter,
    /// Asks what the fault at this place of the plan wants done.
    Nemesis {
        /// From 0.
        place: usize,
    },
}

impl Role {
    /// Its number, beyond those of the plan's clients.
    pub fn number(self, plan: &WorkloadPlan) -> u32 {
        let beyond = match self {
            Role::Prober(Way::Direct) => 1,
            Role::Prober(Way::Grpc) => 2,
            Role::FirstWriter => 3,
            Role::Watcher { nth } => WATCHERS + nth,
            Role::Contender { nth } => CONTENDERS + nth,
            Role::Proxy { nth } => PROXIES + nth,
            Role::LastWriter => WATCHERS - 1,
            Role::Nemesis { place } => 4 + u32::try_from(place).expect("a plan has fewer faults"),
        };
        plan.clients + beyond
    }
}

/// What a member answered.
struct Answer {
    /// How often it had been restarted.
    incarnation: u64,
    /// Whether it is a proxy's own, from what it keeps.
    cached: bool,
    outcome: Outcome,
}

/// The way that a client has taken.
enum Access {
    Direct(Direct),
    Grpc(Grpc),
}

impl Access {
    /// What the member answers; `None` if nobody will ever know. May wait for ever.
    async fn call(&mut self, member: NodeId, context: Context, request: &Request) -> Option<Answer> {
        match self {
            Access::Direct(direct) => direct.call(member, context, request).await,
            Access::Grpc(grpc) => grpc.call(member, context, request).await,
        }
    }
}

/// A client of the cluster.
pub struct Client {
    id: u32,
    roster: Roster,
    /// The member that it talks to: a client stays while it is answered, and moves on when it is not.
    member: NodeId,
    timeout: Duration,
    think_ms: [u64; 2],
    access: Access,
    rng: Pcg64,
    generator: Option<Generator>,
    /// Operations that it has drawn.
    drawn: u32,
    recorder: Rc<RefCell<Recorder>>,
}

impl Client {
    /// The client of that number.
    pub fn new(
        id: u32,
        seed: u64,
        roster: Roster,
        plan: &WorkloadPlan,
        network: Network,
        recorder: Rc<RefCell<Recorder>>,
    ) -> Self {
        let mut rng = rng::stream(seed, "client", u64::from(id));
        let member = any(&roster, &mut rng);
        let generator = Some(Generator::new(rng::stream(seed, "workload", u64::from(id)), plan));
        let timeout = Duration::from_millis(plan.timeout_ms);
        let access = match Way::of(u64::from(id), plan) {
            Way::Direct => Access::Direct(Direct::new(id, network)),
            Way::Grpc => Access::Grpc(Grpc::new(id, network)),
        };
        Client { id, roster, member, timeout, think_ms: plan.think_ms, access, rng, generator, drawn: 0, recorder }
    }

    /// Carries out that many operations, and notes down what it does.
    pub async fn run(mut self, operations: u32, notes: Notes) {
        for _ in 0..operations {
            if self.rng.chance(100) {
                self.member = any(&self.roster, &mut self.rng);
            }
            notes.note(self.id, self.drawn + 1, self.member);
            self.operation().await;
            let [least, greatest] = self.think_ms;
            let pause = self.rng.between(least * 1000, greatest * 1000);
            madsim::time::sleep(Duration::from_micros(pause)).await;
        }
    }

    /// Carries out the steps of a script that are this client's, whose times count from `begun`.
    pub async fn follow(mut self, script: Vec<Step>, begun: u64) {
        let id = self.id;
        for Step { at_us, nth, member, .. } in script.into_iter().filter(|step| step.client == id) {
            let passed = (true_now_ns() - begun) / 1000;
            madsim::time::sleep(Duration::from_micros(at_us.saturating_sub(passed))).await;
            let skipped = nth - 1 - self.drawn;
            self.generator.as_mut().expect("it is put back after each use").skip(skipped);
            self.drawn += skipped;
            self.member = NodeId(member);
            self.operation().await;
        }
    }

    async fn operation(&mut self) {
        self.drawn += 1;
        // Taken out, so that it can be used while `ask` has the client.
        let mut generator = self.generator.take().expect("it is put back after each use");
        match self.ask(self.member, |operation| generator.ask(operation)).await {
            Outcome::Ok(response) => generator.saw(&response),
            Outcome::Failed { .. } => {}
            Outcome::Unknown => {
                self.member = after(&self.roster, self.member);
                // Not to spend all operations on members that refuse at once.
                madsim::time::sleep(BACKOFF).await;
            }
        }
        self.generator = Some(generator);
    }

    /// Asks one member one thing, and records what came of it.
    pub async fn ask<A: Into<Ask>>(&mut self, member: NodeId, ask: impl FnOnce(u64) -> A) -> Outcome {
        let asked = Server { member: member.0, ..Server::default() };
        let (token, request, context) = {
            let mut recorder = self.recorder.borrow_mut();
            let token = recorder.invoke(u64::from(self.id), asked, true_now_ns(), ask);
            let request = recorder.request(&token).clone();
            let context = Context { operation: OperationId(token.operation), path: Some(recorder.path(&token)) };
            (token, request, context)
        };
        let call = self.access.call(member, context, &request);
        let answer = madsim::time::timeout(self.timeout, call).await.ok().flatten();
        let mut recorder = self.recorder.borrow_mut();
        let (server, outcome) = match answer {
            Some(Answer { incarnation, cached, outcome }) => {
                (Some(Server { member: member.0, incarnation, cached }), outcome)
            }
            None => (None, Outcome::Unknown),
        };
        let operation = recorder.complete(token, server, outcome.clone(), true_now_ns());
        tracing::debug!("{operation}");
        outcome
    }
}

/// One of the members.
fn any(roster: &Roster, rng: &mut Pcg64) -> NodeId {
    let roster = roster.borrow();
    roster[rng.between(1, roster.len() as u64) as usize - 1]
}

/// The member after this one, which need not be one any more.
fn after(roster: &Roster, member: NodeId) -> NodeId {
    let roster = roster.borrow();
    let next = roster.iter().find(|other| **other > member).or(roster.first());
    *next.expect("the last voter is not removed")
}
