//! The static binary, and whether one is.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail, ensure};

const MUSL: &str = "x86_64-unknown-linux-musl";
const GNU: &str = "x86_64-unknown-linux-gnu";

/// Builds it, and puts it into `output`.
pub fn build(root: &Path, output: &Path, profile: &str) -> anyhow::Result<PathBuf> {
    ensure!(cfg!(target_arch = "x86_64"), "static binaries are made on x86_64 only so far");
    let target = match (is_installed(MUSL), has_musl_compiler()) {
        (true, true) => MUSL,
        (true, false) => {
            println!("== {MUSL} is installed, but no C compiler for it (Debian: musl-tools): taking the GNU C library");
            GNU
        }
        (false, _) => {
            println!("== {MUSL} is not installed (rustup target add {MUSL}): taking the GNU C library");
            GNU
        }
    };
    println!("== building for {target}, profile {profile}");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root).args(["build", "--package", "switchyard", "--target", target, "--profile", profile]);
    // The mark of a static position-independent binary; musl has it by itself.
    let flags = format!("CARGO_TARGET_{}_RUSTFLAGS", target.to_uppercase().replace('-', "_"));
    cargo.env(flags, "-C target-feature=+crt-static");
    // Lines of a backtrace are not worth three times the size where every byte is copied around.
    cargo.env(format!("CARGO_PROFILE_{}_STRIP", profile.to_uppercase().replace('-', "_")), "debuginfo");
    let status = cargo.status().context("cannot start cargo")?;
    ensure!(status.success(), "cargo build ended with {status}");
    let directory = if profile == "dev" { "debug" } else { profile };
    let target_directory = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let built = target_directory.join(target).join(directory).join("switchyard");
    check(&built)?;
    let binary = output.join("switchyard");
    std::fs::copy(&built, &binary).with_context(|| format!("cannot copy {}", built.display()))?;
    println!("{}: static, {} KiB, {target}", binary.display(), std::fs::metadata(&binary)?.len() / 1024);
    Ok(binary)
}

/// Fails unless the file is a program that needs no loader and no libraries.
pub fn check(file: &Path) -> anyhow::Result<()> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    match needs(&bytes) {
        Ok(None) => Ok(()),
        Ok(Some(what)) => bail!("{} is not static: it needs {what}", file.display()),
        Err(error) => Err(error.context(format!("{} cannot be checked", file.display()))),
    }
}

/// What a 64-bit little-endian ELF program needs from outside, if anything: its interpreter, or libraries.
fn needs(bytes: &[u8]) -> anyhow::Result<Option<String>> {
    const INTERPRETER: u32 = 3;
    const DYNAMIC: u32 = 2;
    const NEEDED: u64 = 1;
    ensure!(bytes.get(..6) == Some(b"\x7fELF\x02\x01"), "no 64-bit little-endian ELF file");
    let number = |at: usize, length: usize| -> anyhow::Result<u64> {
        let end = at.checked_add(length).context("a place beyond the file")?;
        let bytes = bytes.get(at..end).context("a place beyond the file")?;
        Ok(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    let (table, size, count) = (number(32, 8)? as usize, number(54, 2)? as usize, number(56, 2)? as usize);
    for header in 0..count {
        let at = table.checked_add(header * size).context("a place beyond the file")?;
        let (kind, offset, length) = (number(at, 4)? as u32, number(at + 8, 8)? as usize, number(at + 32, 8)? as usize);
        if kind == INTERPRETER {
            let name = bytes.get(offset..offset.saturating_add(length)).unwrap_or_default();
            return Ok(Some(String::from_utf8_lossy(name).trim_end_matches('\0').to_owned()));
        }
        if kind == DYNAMIC {
            for entry in (offset..offset.saturating_add(length)).step_by(16) {
                if number(entry, 8)? == NEEDED {
                    return Ok(Some("shared libraries".to_owned()));
                }
            }
        }
    }
    Ok(None)
}

fn is_installed(target: &str) -> bool {
    let output = Command::new("rustc").args(["--print", "target-libdir", "--target", target]).output();
    output.is_ok_and(|output| {
        output.status.success() && Path::new(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
    })
}

/// SQLite and the allocator are C.
fn has_musl_compiler() -> bool {
    ["musl-gcc", "x86_64-linux-musl-gcc"].iter().any(|program| Command::new(program).arg("--version").output().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_a_loader_is_told_from_one_without() {
        // This test itself is an ordinary program.
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let found = needs(&own).unwrap().unwrap();
        assert!(found.contains("ld-linux") || found.contains("ld-musl"), "{found}");
        // The same without program headers needs nothing; what is cut off is no program.
        let mut bare = own.clone();
        bare[56..58].copy_from_slice(&[0, 0]);
        assert_eq!(needs(&bare).unwrap(), None);
        assert!(needs(&own[..40]).is_err() && needs(b"#!/bin/sh").is_err());
    }
}
