//! The whole catalogue, a few seeds of each scenario and every regression, in the profile of the tests: with the
//! assertions of our own code and of openraft's, which a release build leaves out. Every seed runs twice, and has to
//! come to the same.

use std::process::Command;

#[test]
fn the_catalogue_is_clean_with_assertions_on() {
    let folder = tempfile::tempdir().expect("a folder for the summary");
    let sweep = Command::new(env!("CARGO_BIN_EXE_seedbed"))
        .args(["run", "--seeds", "1000..1002", "--verify-every", "1", "--out"])
        .arg(folder.path())
        .output()
        .expect("the binary was built for this test");
    let kept = concat!(env!("CARGO_MANIFEST_DIR"), "/regressions");
    let runs = 25 * 2 + std::fs::read_dir(kept).expect("the folder of the regressions").count();
    let shown = String::from_utf8_lossy(&sweep.stdout);
    assert!(sweep.status.success(), "{shown}");
    assert!(shown.contains(&format!("{runs} runs, 0 with a violation; {runs} run twice")), "{shown}");
}
