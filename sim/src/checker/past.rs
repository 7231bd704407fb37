//! The states that the store went through: the model, led by what was applied.

use std::collections::BTreeMap;

use seedbed_core::runtime::AppliedEntry;

use crate::history::{History, Operation};
use crate::model::Kv;
use crate::outcome::Violation;

/// The model after all of a history's operations that changed a key, in the order in which entries say that they did. It has
/// every revision's state. For a judge who holds other things against it.
///
/// # Errors
/// The judge's: a revision that no operation of the history can have made in its place.
pub(super) fn led_by<'a>(
    judge: &'static str,
    history: &History,
    entries: impl IntoIterator<Item = &'a AppliedEntry>,
) -> Result<Kv, Violation> {
    let operations: BTreeMap<u64, &Operation> =
        history.operations.iter().map(|operation| (operation.id, operation)).collect();
    let changed = entries.into_iter().filter(|entry| entry.changed);
    let writes: BTreeMap<i64, u64> = changed.map(|entry| (entry.revision, entry.operation)).collect();
    let mut kv = Kv::new();
    for (revision, operation) in writes {
        let applied = operations.get(&operation).map(|operation| kv.apply(&operation.request).is_ok());
        if applied != Some(true) || kv.revision() != revision {
            let message =
                format!("the log cannot be followed: revision {revision}, by #{operation}, is {} here", kv.revision());
            return Err(Violation { judge, message });
        }
    }
    Ok(kv)
}
