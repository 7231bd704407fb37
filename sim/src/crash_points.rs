//! Members that die at a place in their own code: whoever comes there for the n-th time does not get any further.
//!
//! ```text
//!   nemesis   arm(member, place, n) ───────────────────────────► disarm: who has died
//!   member         reached   reached ... the n-th: it is crashed there and then, and the task stands still
//! ```

use std::cell::RefCell;
use std::future::{Future, pending};
use std::rc::Rc;

use madsim::task::NodeId as SimNode;
use seedbed_core::raft::NodeId;
use seedbed_core::runtime::{CrashPoint, CrashPoints};

use crate::trace;

/// Crashes a member from within one of its tasks.
type Crash = Rc<dyn Fn(NodeId)>;

/// A member that is to die.
struct Arm {
    /// Of the fault that wants it, in the plan.
    place: usize,
    member: NodeId,
    sim: SimNode,
    point: CrashPoint,
    /// How often it has yet to come there.
    left: u32,
    died: bool,
}

#[derive(Default)]
struct Armed {
    crash: Option<Crash>,
    arms: Vec<Arm>,
}

thread_local! {
    static ARMED: RefCell<Armed> = RefCell::default();
}

/// From now on, and with nothing armed, members die by `crash`; by nobody, if `None`.
pub(crate) fn reset(crash: Option<Crash>) {
    let old = ARMED.replace(Armed { crash, arms: Vec::new() });
    drop(old);
}

/// The member dies when it comes to `point` for the `nth` time from now on, for the `place`-th fault of the plan.
pub(crate) fn arm(place: usize, member: NodeId, sim: SimNode, point: CrashPoint, nth: u32) {
    ARMED.with_borrow_mut(|armed| armed.arms.push(Arm { place, member, sim, point, left: nth, died: false }));
}

/// Ends what a fault has armed. Who has died of it.
pub(crate) fn disarm(place: usize) -> Vec<NodeId> {
    ARMED.with_borrow_mut(|armed| {
        let ended = armed.arms.extract_if(.., |arm| arm.place == place);
        ended.filter(|arm| arm.died).map(|arm| arm.member).collect()
    })
}

/// The places of the simulation.
#[derive(Clone, Copy, Debug)]
pub enum SimCrashPoints {}

impl CrashPoints for SimCrashPoints {
    fn reached(point: CrashPoint) -> impl Future<Output = ()> + Send {
        let dies = ARMED.with_borrow_mut(|armed| {
            // Most runs arm nothing.
            if armed.arms.is_empty() {
                return None;
            }
            let here = madsim::plugin::node();
            let coming = armed.arms.iter_mut().filter(|arm| arm.sim == here && arm.point == point && arm.left > 0);
            let mut dies = None;
            for arm in coming {
                arm.left -= 1;
                if arm.left == 0 {
                    arm.died = true;
                    dies = Some(arm.member);
                }
            }
            Some((dies?, armed.crash.clone()?))
        });
        let died = dies.is_some();
        if let Some((member, crash)) = dies {
            trace::record("crash-point", &[member.0, point as u64]);
            tracing::info!(%member, %point, "dies here");
            crash(member);
        }
        async move {
            if died {
                pending().await
            }
        }
    }
}
