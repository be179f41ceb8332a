//! A Debian package: a tree of files, and `dpkg-deb`, which every Debian has. The static binary needs no
//! other package's libraries, so one package fits every release.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

const UNITS: [&str; 3] = ["router", "namerd", "pipeline"];
const DOCUMENTS: [&str; 3] = ["linkerd", "namerd", "pipeline"];
const DOCS: [&str; 6] = ["operations", "configuration", "api", "exit-codes", "compatibility", "reliability"];
const SCRIPTS: [&str; 3] = ["postinst", "prerm", "postrm"];

pub fn build(root: &Path, binary: &Path, output: &Path, version: &str) -> anyhow::Result<()> {
    let tree = output.join("deb");
    if tree.exists() {
        fs::remove_dir_all(&tree).with_context(|| format!("cannot empty {}", tree.display()))?;
    }
    let packaging = root.join("packaging");
    let tree = Tree(tree);
    tree.copy(binary, "usr/bin/switchyard", 0o755)?;
    for unit in UNITS {
        let name = format!("switchyard-{unit}.service");
        tree.copy(&packaging.join("systemd").join(&name), &format!("usr/lib/systemd/system/{name}"), 0o644)?;
    }
    for document in DOCUMENTS {
        let name = format!("{document}.yaml");
        tree.copy(&packaging.join("etc").join(&name), &format!("etc/switchyard/{name}"), 0o644)?;
    }
    tree.directory("etc/switchyard/disco")?;
    for doc in DOCS {
        tree.copy(&root.join(format!("docs/{doc}.md")), &format!("usr/share/doc/switchyard/{doc}.md"), 0o644)?;
    }
    tree.copy(&packaging.join("deb/copyright"), "usr/share/doc/switchyard/copyright", 0o644)?;
    tree.zipped(&fs::read(root.join("CHANGELOG.md"))?, "usr/share/doc/switchyard/changelog.gz")?;
    tree.zipped(&fs::read(packaging.join("deb/switchyard.1"))?, "usr/share/man/man1/switchyard.1.gz")?;
    let completions = Command::new(binary).args(["completions", "bash"]).output();
    let completions = completions.with_context(|| format!("cannot run {}", binary.display()))?;
    ensure!(completions.status.success(), "{} completions bash ended with {}", binary.display(), completions.status);
    tree.write(&completions.stdout, "usr/share/bash-completion/completions/switchyard", 0o644)?;

    for script in SCRIPTS {
        tree.copy(&packaging.join("deb").join(script), &format!("DEBIAN/{script}"), 0o755)?;
    }
    let conffiles = DOCUMENTS.map(|document| format!("/etc/switchyard/{document}.yaml\n")).concat();
    tree.write(conffiles.as_bytes(), "DEBIAN/conffiles", 0o644)?;
    let size = fs::metadata(binary)?.len().div_ceil(1024);
    tree.write(control(version, size).as_bytes(), "DEBIAN/control", 0o644)?;
    tree.write(sums(&tree.0)?.as_bytes(), "DEBIAN/md5sums", 0o644)?;

    let package = output.join(format!("switchyard_{version}_amd64.deb"));
    let status = Command::new("dpkg-deb")
        .args(["--root-owner-group", "-Zxz", "--build"])
        .args([&tree.0, &package])
        // Times in the package: the same input, the same bytes.
        .env("SOURCE_DATE_EPOCH", std::env::var("SOURCE_DATE_EPOCH").unwrap_or_else(|_| "0".into()))
        .stdout(Stdio::null())
        .status()
        .context("cannot start dpkg-deb: a Debian package is made on Debian or Ubuntu")?;
    ensure!(status.success(), "dpkg-deb ended with {status}");
    fs::remove_dir_all(&tree.0)?;
    println!("{}: {} KiB", package.display(), fs::metadata(&package)?.len() / 1024);
    Ok(())
}

fn control(version: &str, size: u64) -> String {
    format!(
        "\
Package: switchyard
Version: {version}
Architecture: amd64
Maintainer: The Switchyard authors <switchyard@localhost>
Installed-Size: {size}
Depends: adduser
Recommends: ca-certificates, git
Section: net
Priority: optional
Description: layer-7 router, control plane and pipeline of deploys
 Moves production traffic from one version of a service to the next, one
 request at a time. Drop-in for Linkerd 1.x, Namerd and namerctl: the router
 routes HTTP/1.1 by delegation tables, the control plane stores these, and the
 pipeline deploys new versions blue-green.
 .
 Installs three services that are not started: enable those that you want.
"
    )
}

/// The files to come.
struct Tree(PathBuf);

impl Tree {
    fn place(&self, path: &str) -> anyhow::Result<PathBuf> {
        let place = self.0.join(path);
        if let Some(parent) = Path::new(path).parent().and_then(Path::to_str) {
            self.directory(parent)?;
        }
        Ok(place)
    }

    /// Whatever this machine's umask is.
    fn directory(&self, path: &str) -> anyhow::Result<()> {
        let mut place = self.0.clone();
        fs::create_dir_all(self.0.join(path)).with_context(|| format!("cannot make {path}"))?;
        fs::set_permissions(&place, Permissions::from_mode(0o755))?;
        for part in Path::new(path) {
            place.push(part);
            fs::set_permissions(&place, Permissions::from_mode(0o755))?;
        }
        Ok(())
    }

    fn write(&self, bytes: &[u8], path: &str, mode: u32) -> anyhow::Result<()> {
        let place = self.place(path)?;
        fs::write(&place, bytes).with_context(|| format!("cannot write {path}"))?;
        Ok(fs::set_permissions(&place, Permissions::from_mode(mode))?)
    }

    fn copy(&self, file: &Path, path: &str, mode: u32) -> anyhow::Result<()> {
        let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        self.write(&bytes, path, mode)
    }

    fn zipped(&self, bytes: &[u8], path: &str) -> anyhow::Result<()> {
        let plain = path.trim_end_matches(".gz");
        self.write(bytes, plain, 0o644)?;
        let status =
            Command::new("gzip").args(["-9nf"]).arg(self.0.join(plain)).status().context("cannot start gzip")?;
        ensure!(status.success(), "gzip ended with {status}");
        Ok(())
    }
}

/// `md5sum` of every file, which `dpkg --verify` looks at.
fn sums(tree: &Path) -> anyhow::Result<String> {
    let script = "find etc usr -type f | LC_ALL=C sort | xargs md5sum";
    let output = Command::new("sh").args(["-ec", script]).current_dir(tree).output().context("cannot start sh")?;
    ensure!(output.status.success(), "md5sum ended with {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_file_is_one_stanza() {
        let text = control("1.2.3", 42);
        assert!(text.contains("\nVersion: 1.2.3\n") && text.contains("\nInstalled-Size: 42\n"));
        for line in text.lines() {
            assert!(line.starts_with(' ') || line.contains(": "), "{line}");
        }
        assert!(!text.contains("\n\n"), "an empty line would end it");
    }

    #[test]
    fn files_get_their_modes_whatever_the_umask() {
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree(directory.path().join("tree"));
        tree.write(b"x", "usr/bin/x", 0o755).unwrap();
        tree.zipped(b"y", "usr/share/y.gz").unwrap();
        let mode = |path: &str| fs::metadata(tree.0.join(path)).unwrap().permissions().mode() & 0o7777;
        assert_eq!(["usr", "usr/bin", "usr/bin/x", "usr/share/y.gz"].map(mode), [0o755, 0o755, 0o755, 0o644]);
        assert!(!tree.0.join("usr/share/y").exists());
        fs::create_dir(tree.0.join("etc")).unwrap();
        assert_eq!(sums(&tree.0).unwrap().lines().count(), 2);
    }
}
