//! Programs of this machine that go into an image with all that they load: the libraries of a binary that is not
//! static, and git, which pipelines clone with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use crate::needs;

/// What git calls besides itself: to clone over HTTP, and to serve a repository.
const OF_GIT: [&str; 3] = ["git-remote-http", "git-remote-https", "git-daemon"];

/// By their places without a slash in front; empty for a static binary.
pub fn libraries(binary: &Path) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let output = Command::new("ldd").arg(binary).output().context("cannot start ldd")?;
    // It fails for a program that is static.
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(!text.contains("not found"), "{} misses libraries:\n{text}", binary.display());
    paths(&text).into_iter().map(read).collect()
}

/// `libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x…)`, `/lib64/ld-linux-x86-64.so.2 (0x…)`
fn paths(text: &str) -> Vec<PathBuf> {
    let of_line = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    text.lines().filter_map(of_line).collect()
}

/// git, what it calls, and all their libraries.
pub fn git() -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let git = needs::find(&["git"]).context("there is no git here to put into the image (Debian package git)")?;
    let output = Command::new(&git).arg("--exec-path").output().context("cannot start git")?;
    let directory = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    let more = OF_GIT.iter().map(|name| directory.join(name)).filter(|file| file.exists());
    let mut files = BTreeMap::new();
    for program in std::iter::once(git).chain(more) {
        files.extend(libraries(&program)?);
        let (place, bytes) = read(program)?;
        files.insert(place, bytes);
    }
    Ok(files)
}

fn read(file: PathBuf) -> anyhow::Result<(String, Vec<u8>)> {
    let bytes = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok((file.display().to_string().trim_start_matches('/').to_owned(), bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_by_what_ldd_says() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibm.so.6 => /lib/x/libm.so.6 (0x1)\n\t/lib64/ld.so (0x2)\n";
        assert_eq!(paths(text), [PathBuf::from("/lib/x/libm.so.6"), PathBuf::from("/lib64/ld.so")]);
        assert!(paths("\tnot a dynamic executable\n").is_empty());
        // This test itself is an ordinary program.
        let own = libraries(&std::env::current_exe().unwrap()).unwrap();
        assert!(own.keys().any(|place| place.contains("libc.so")), "{:?}", own.keys());
        assert!(own.keys().all(|place| !place.starts_with('/')));
    }
}
