//! What the binary knows of its source: the commit, and the plans of `regressions/`.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    commit();
    regressions()
}

/// Sets `SEEDBED_COMMIT`, if this folder is under git. What has been changed since the commit is not looked for: it
/// would have to be looked for in each build.
fn commit() {
    // A copy without a history of its own may lie in somebody else's.
    if git(&["rev-parse", "--show-prefix"]).as_deref() != Some("scenarios/") {
        return;
    }
    for name in ["HEAD", "logs/HEAD"] {
        // What is not there would count as changed each time.
        if let Some(path) = git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    if let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) {
        println!("cargo::rustc-env=SEEDBED_COMMIT={commit}");
    }
}

/// What git prints; nothing, if there is no git or no repository.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok().map(|text| text.trim().to_owned())
}

/// Writes the list of all regressions, by name: `&[("name", include_str!("its file"))]`.
fn regressions() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=regressions");
    let folder = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("regressions");
    let mut files = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, std::io::Error>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    let mut list = String::from("&[\n");
    for file in files {
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        writeln!(list, "    ({name:?}, include_str!({:?})),", file.to_string_lossy())?;
    }
    list.push_str("]\n");
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("regressions.rs"), list)?;
    Ok(())
}
