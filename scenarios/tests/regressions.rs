//! Every bug that was found once stays found: the plans in `regressions/` are replayed, and have to be clean.

use std::path::Path;
use std::process::Command;

#[test]
fn plans_that_once_failed_are_clean() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let mut plans: Vec<_> = folder
        .read_dir()
        .expect("the folder is part of the repository")
        .map(|entry| entry.expect("it can be listed").path())
        .collect();
    plans.sort();
    assert!(!plans.is_empty());
    for plan in plans {
        let replay = Command::new(env!("CARGO_BIN_EXE_seedbed")).arg("replay").arg(&plan).output();
        let replay = replay.expect("the binary was built for this test");
        assert!(replay.status.success(), "{}: {}", plan.display(), String::from_utf8_lossy(&replay.stdout));
    }
}
