//! What the tests need beside Rust: looked for, installed where we may, named where we may not.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

/// A program, the names it goes by, and its Debian package.
struct Need {
    what_for: &'static str,
    programs: &'static [&'static str],
    package: &'static str,
}

const NEEDS: &[Need] = &[
    Need { what_for: "the pipeline clones repositories", programs: &["git"], package: "git" },
    Need {
        what_for: "the pages are tested in a real browser",
        programs: &["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"],
        package: "chromium",
    },
    Need { what_for: "the Kubernetes of the tests makes its certificates", programs: &["openssl"], package: "openssl" },
    Need { what_for: "the Kubernetes of the tests is waited for", programs: &["curl"], package: "curl" },
];

/// Sees to it that everything is there, or says exactly what is not.
pub fn set_up() -> anyhow::Result<()> {
    programs()?;
    kubernetes()?;
    helm()
}

/// Helm, which the chart is tested with, compiled from its Go module once per machine.
fn helm() -> anyhow::Result<()> {
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("kube/helm");
    let status = Command::new(&build).status().with_context(|| format!("cannot start {}", build.display()))?;
    if !status.success() {
        bail!("the tests need Helm, which {} builds with Go (it ended with {status}, see above)", build.display());
    }
    Ok(())
}

/// A Kubernetes control plane, compiled from Go modules once per machine; does nothing where it is there.
fn kubernetes() -> anyhow::Result<()> {
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("kube/build");
    let status = Command::new(&build).status().with_context(|| format!("cannot start {}", build.display()))?;
    if !status.success() {
        bail!(
            "the tests need a Kubernetes control plane, which {} builds (it ended with {status}, see above).\n\
             It needs Go 1.24 or newer, once: https://go.dev/dl, for instance\n  \
             curl -L https://go.dev/dl/go1.26.0.linux-amd64.tar.gz | sudo tar -C /usr/local -xz && \
             export PATH=\"$PATH:/usr/local/go/bin\"",
            build.display()
        );
    }
    Ok(())
}

fn programs() -> anyhow::Result<()> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| find(need.programs).is_none()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|need| need.package).collect();
    let command = format!("apt-get update && apt-get install -y --no-install-recommends {}", packages.join(" "));
    if is_root() && find(&["apt-get"]).is_some() {
        println!("== installing {}", packages.join(", "));
        let status = Command::new("sh")
            .args(["-ec", &command])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .status()
            .context("cannot start apt-get")?;
        if !status.success() {
            bail!("`{command}` ended with {status}");
        }
    }
    let missing: Vec<String> = NEEDS
        .iter()
        .filter(|need| find(need.programs).is_none())
        .map(|need| format!("  {} ({})", need.programs.join(" or "), need.what_for))
        .collect();
    if !missing.is_empty() {
        bail!(
            "the tests need, and cannot find in PATH:\n{}\non Debian or Ubuntu: sudo sh -c '{command}'",
            missing.join("\n")
        );
    }
    Ok(())
}

/// The first of these programs that is in PATH.
pub fn find(programs: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let directories: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let candidates =
        programs.iter().flat_map(|program| directories.iter().map(move |directory| directory.join(program)));
    candidates.into_iter().find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|about| about.is_file() && about.permissions().mode() & 0o111 != 0)
}

/// Whether we may install packages.
pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|about| about.uid() == 0)
}
