//! A container image from scratch: an OCI layout and a `docker load` archive in one file, one layer with the
//! binary and the few files that it looks for; the libraries of a binary that has some; git, if asked for.
//!
//! ```text
//!  oci-layout · index.json ──▶ blobs/sha256/manifest ──▶ blobs/sha256/config
//!  manifest.json (docker) ────────────────────────────▶  blobs/sha256/layer
//! ```

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

use super::programs;

/// Who runs in it; a number, so that `runAsNonRoot` can tell.
const USER: u64 = 65_532;
const AUTHORITIES: &[&str] = &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];
const PORTS: [u16; 6] = [4140, 4142, 4180, 8080, 9990, 9991];

/// A file of the layer.
enum File {
    Directory { mode: u32, owner: u64 },
    Plain { mode: u32, bytes: Vec<u8> },
    Link { to: &'static str },
}

/// What is asked for.
pub struct Image<'a> {
    /// `switchyard:0.1.0`
    pub tag: &'a str,
    /// The entry point: `switchyard`, or one of the names that it goes by.
    pub program: &'a str,
    /// Whether pipelines can clone in it.
    pub with_git: bool,
}

/// The names that the binary goes by.
pub const PROGRAMS: [&str; 5] = ["helloworld", "linkerd", "namerctl", "namerd", "switchyard"];

pub fn build(binary: &Path, output: &Path, image: &Image<'_>) -> anyhow::Result<()> {
    let program = std::fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?;
    let mut more = programs::libraries(binary)?;
    if !more.is_empty() {
        println!("== {} is not static: {} libraries of this machine come along", binary.display(), more.len());
    }
    if image.with_git {
        more.extend(programs::git()?);
    }
    let authorities = AUTHORITIES.iter().find_map(|file| std::fs::read(file).ok());
    if authorities.is_none() {
        println!("== no CA certificates on this machine (Debian: ca-certificates): the image has none");
    }
    let layer = layer(program, authorities, more)?;
    let layer = Blob::of(layer);
    let archive = archive(&layer, image)?;
    std::fs::write(output, &archive).with_context(|| format!("cannot write {}", output.display()))?;
    println!("{}: {}, {} KiB, layer {}", output.display(), image.tag, archive.len() / 1024, layer.digest());
    Ok(())
}

/// Its file system, as a tar. `more`: programs and libraries by their places, without a slash in front.
fn layer(program: Vec<u8>, authorities: Option<Vec<u8>>, more: BTreeMap<String, Vec<u8>>) -> anyhow::Result<Vec<u8>> {
    let directory = || File::Directory { mode: 0o755, owner: 0 };
    let plain = |text: &str| File::Plain { mode: 0o644, bytes: text.as_bytes().to_vec() };
    let passwd = format!("root:x:0:0:root:/:/\nnobody:x:65534:65534:nobody:/:/\nswitchyard:x:{USER}:{USER}::/:/\n");
    let group = format!("root:x:0:\nnogroup:x:65534:\nswitchyard:x:{USER}:\n");
    let mut files = BTreeMap::from([
        ("etc/group", plain(&group)),
        ("etc/nsswitch.conf", plain("hosts: files dns\n")),
        ("etc/passwd", plain(&passwd)),
        ("run/switchyard/", File::Directory { mode: 0o700, owner: USER }),
        ("tmp/", File::Directory { mode: 0o1777, owner: 0 }),
        ("usr/bin/helloworld", File::Link { to: "switchyard" }),
        ("usr/bin/linkerd", File::Link { to: "switchyard" }),
        ("usr/bin/namerctl", File::Link { to: "switchyard" }),
        ("usr/bin/namerd", File::Link { to: "switchyard" }),
        ("usr/bin/switchyard", File::Plain { mode: 0o755, bytes: program }),
    ]);
    if let Some(bytes) = authorities {
        files.insert("etc/ssl/certs/ca-certificates.crt", File::Plain { mode: 0o644, bytes });
    }
    let executable = |bytes| File::Plain { mode: 0o755, bytes };
    let mut files: BTreeMap<String, File> = files.into_iter().map(|(path, file)| (path.to_owned(), file)).collect();
    files.extend(more.into_iter().map(|(path, bytes)| (path, executable(bytes))));
    let parents: Vec<String> = files.keys().flat_map(|path| parents(path)).collect();
    for parent in parents {
        files.entry(parent).or_insert_with(directory);
    }
    let mut tar = Builder::new(Vec::new());
    for (path, file) in files {
        match file {
            File::Directory { mode, owner } => append(&mut tar, &path, EntryType::Directory, mode, owner, &[])?,
            File::Plain { mode, bytes } => append(&mut tar, &path, EntryType::Regular, mode, 0, &bytes)?,
            File::Link { to } => {
                let mut header = header(EntryType::Symlink, 0o777, 0, 0);
                tar.append_link(&mut header, path, to)?;
            }
        }
    }
    Ok(tar.into_inner()?)
}

/// `usr/bin/git` is in `usr/` and `usr/bin/`.
fn parents(path: &str) -> Vec<String> {
    let inner = path.trim_end_matches('/');
    inner.match_indices('/').map(|(at, _)| inner[..=at].to_owned()).collect()
}

/// The image's file: everything twice addressed, nothing twice stored.
fn archive(layer: &Blob, image: &Image<'_>) -> anyhow::Result<Vec<u8>> {
    let tag = image.tag;
    let version = env!("CARGO_PKG_VERSION");
    let ports = PORTS.iter().map(|port| (format!("{port}/tcp"), json!({}))).collect::<serde_json::Map<_, _>>();
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "User": format!("{USER}:{USER}"),
            "Env": ["PATH=/usr/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"],
            "Entrypoint": [format!("/usr/bin/{}", image.program)],
            "Cmd": if image.program == "switchyard" { json!(["--help"]) } else { json!([]) },
            "WorkingDir": "/",
            "ExposedPorts": ports,
            "StopSignal": "SIGTERM",
            "Labels": {
                "org.opencontainers.image.title": "switchyard",
                "org.opencontainers.image.description": "A layer-7 router, its control plane, and a pipeline of deploys",
                "org.opencontainers.image.version": version,
                "org.opencontainers.image.licenses": "Apache-2.0",
            },
        },
        "rootfs": { "type": "layers", "diff_ids": [layer.digest()] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "cargo xtask dist image" }],
    });
    let config = Blob::of(config.to_string().into_bytes());
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config.described("application/vnd.oci.image.config.v1+json"),
        "layers": [layer.described("application/vnd.oci.image.layer.v1.tar")],
    });
    let manifest = Blob::of(manifest.to_string().into_bytes());
    let mut entry = manifest.described("application/vnd.oci.image.manifest.v1+json");
    entry["platform"] = json!({ "architecture": "amd64", "os": "linux" });
    // containerd wants the whole name, others the tag.
    let name = if tag.contains('/') { tag.to_owned() } else { format!("docker.io/library/{tag}") };
    let short = tag.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    entry["annotations"] = json!({ "io.containerd.image.name": name, "org.opencontainers.image.ref.name": short });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [entry],
    });
    let docker = json!([{ "Config": config.place(), "RepoTags": [tag], "Layers": [layer.place()] }]);

    let (index, docker) = (index.to_string().into_bytes(), docker.to_string().into_bytes());
    let layout = br#"{"imageLayoutVersion":"1.0.0"}"#;
    let mut files: Vec<(String, &[u8])> = vec![
        ("index.json".to_owned(), &index),
        ("manifest.json".to_owned(), &docker),
        ("oci-layout".to_owned(), layout),
    ];
    files.extend([&manifest, &config, layer].map(|blob| (blob.place(), blob.bytes.as_slice())));
    files.sort();
    let mut tar = Builder::new(Vec::new());
    for directory in ["blobs/", "blobs/sha256/"] {
        append(&mut tar, directory, EntryType::Directory, 0o755, 0, &[])?;
    }
    for (path, bytes) in files {
        append(&mut tar, &path, EntryType::Regular, 0o644, 0, bytes)?;
    }
    Ok(tar.into_inner()?)
}

/// Bytes that are called by what they are; read through once.
struct Blob {
    bytes: Vec<u8>,
    sum: String,
}

impl Blob {
    fn of(bytes: Vec<u8>) -> Blob {
        let sum = hex(&bytes);
        Blob { bytes, sum }
    }

    fn digest(&self) -> String {
        format!("sha256:{}", self.sum)
    }

    fn place(&self) -> String {
        format!("blobs/sha256/{}", self.sum)
    }

    fn described(&self, kind: &str) -> Value {
        json!({ "mediaType": kind, "digest": self.digest(), "size": self.bytes.len() })
    }
}

fn append(
    tar: &mut Builder<impl Write>,
    path: &str,
    kind: EntryType,
    mode: u32,
    owner: u64,
    bytes: &[u8],
) -> anyhow::Result<()> {
    let mut header = header(kind, mode, owner, bytes.len() as u64);
    tar.append_data(&mut header, path, bytes).with_context(|| format!("cannot pack {path}"))
}

/// Without times and names.
fn header(kind: EntryType, mode: u32, owner: u64, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(owner);
    header.set_gid(owner);
    header.set_mtime(0);
    header.set_size(size);
    header
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use super::*;

    fn files(tar: &[u8]) -> BTreeMap<String, (u32, u64, Vec<u8>)> {
        let mut archive = tar::Archive::new(tar);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let (mode, owner) = (entry.header().mode().unwrap(), entry.header().uid().unwrap());
            assert_eq!(entry.header().mtime().unwrap(), 0, "{path}");
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (path, (mode, owner, bytes))
        });
        entries.collect()
    }

    #[test]
    fn the_image_leads_from_its_names_to_its_files() {
        let more = BTreeMap::from([("lib64/ld.so".to_owned(), b"loader".to_vec())]);
        let layer = Blob::of(layer(b"the program".to_vec(), Some(b"trust".to_vec()), more).unwrap());
        let wanted = Image { tag: "switchyard:test", program: "linkerd", with_git: false };
        let image = archive(&layer, &wanted).unwrap();
        assert_eq!(image, archive(&layer, &wanted).unwrap(), "the same input, the same bytes");
        let files_of_image = files(&image);
        let json = |path: &str| -> Value { serde_json::from_slice(&files_of_image[path].2).unwrap() };
        for (path, (_, _, bytes)) in &files_of_image {
            if let Some(name) = path.strip_prefix("blobs/sha256/").filter(|name| !name.is_empty()) {
                assert_eq!(hex(bytes), name, "a blob is called by its digest");
            }
        }
        let follow = |digest: &Value| format!("blobs/{}", digest.as_str().unwrap().replace(':', "/"));
        let manifest = json(&follow(&json("index.json")["manifests"][0]["digest"]));
        let config_path = follow(&manifest["config"]["digest"]);
        let layer_path = follow(&manifest["layers"][0]["digest"]);
        let docker = json("manifest.json");
        assert_eq!((&docker[0]["Config"], &docker[0]["Layers"][0]), (&json!(config_path), &json!(layer_path)));
        assert_eq!(docker[0]["RepoTags"][0], "switchyard:test");
        let config = json(&config_path);
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!(config["config"]["Entrypoint"], json!(["/usr/bin/linkerd"]));
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", hex(&files_of_image[&layer_path].2)));

        let inside = files(&files_of_image[&layer_path].2);
        assert_eq!(inside["usr/bin/switchyard"], (0o755, 0, b"the program".to_vec()));
        assert_eq!(inside["etc/ssl/certs/ca-certificates.crt"].2, b"trust");
        assert_eq!(inside["lib64/ld.so"], (0o755, 0, b"loader".to_vec()));
        for directory in ["etc/", "etc/ssl/", "etc/ssl/certs/", "lib64/", "run/", "usr/", "usr/bin/"] {
            assert_eq!(inside[directory].0, 0o755, "{directory}");
        }
        assert_eq!((inside["tmp/"].0, inside["run/switchyard/"].1), (0o1777, USER));
    }
}
