//! `cargo xtask dist`: what is installed elsewhere. A static binary; a container image and a Debian
//! package around one. Nothing here needs a registry, a daemon, or more than Rust, a C compiler and, for the
//! package, `dpkg-deb`.
//!
//! The same input gives the same bytes: no times, no names of this machine, sorted.

mod binary;
mod deb;
pub mod image;
mod programs;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

pub const USAGE: &str = "\
usage: cargo xtask dist static [--profile PROFILE]
       cargo xtask dist image  [--profile PROFILE | --binary FILE] [--tag NAME:TAG] [--program NAME] [--with git]
       cargo xtask dist deb    [--profile PROFILE | --binary FILE] [--version VERSION]

static   a binary without shared libraries, dist/switchyard: for x86_64-unknown-linux-musl where that target and
         musl-gcc are installed, else with the GNU C library, and it says which
image    a container image from scratch around it, dist/switchyard-image.tar: `docker load -i`,
         `ctr images import`, `skopeo copy oci-archive:`
deb      a Debian package around it, dist/switchyard_VERSION_ARCH.deb

--profile   of Cargo [default: release]
--binary    take this one, and build none; a package's must be static, an image gets the libraries of one that is not
--tag       the image's name [default: switchyard:VERSION]
--program   the image's entry point: switchyard, linkerd, namerd, namerctl or helloworld [default: switchyard]
--with git  git of this machine, too, for the pipeline, which clones repositories
--version   of the package [default: the workspace's]
";

/// What was typed behind `dist`.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    what: What,
    profile: String,
    binary: Option<PathBuf>,
    tag: Option<String>,
    program: String,
    with_git: bool,
    version: Option<String>,
}

impl Options {
    fn of(what: What) -> Options {
        Options {
            what,
            profile: "release".into(),
            binary: None,
            tag: None,
            program: "switchyard".into(),
            with_git: false,
            version: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Static,
    Image,
    Deb,
}

pub fn run(arguments: &[String]) -> anyhow::Result<()> {
    let options = parse(arguments)?;
    let root = root();
    let output = root.join("dist");
    std::fs::create_dir_all(&output).with_context(|| format!("cannot make {}", output.display()))?;
    let binary = match &options.binary {
        Some(binary) => {
            if options.what == What::Deb {
                binary::check(binary)?;
            }
            binary.clone()
        }
        None => binary::build(&root, &output, &options.profile)?,
    };
    let version = env!("CARGO_PKG_VERSION");
    match options.what {
        What::Static => {}
        What::Image => {
            let tag = options.tag.unwrap_or_else(|| format!("switchyard:{version}"));
            let image = image::Image { tag: &tag, program: &options.program, with_git: options.with_git };
            image::build(&binary, &output.join("switchyard-image.tar"), &image)?;
        }
        What::Deb => deb::build(&root, &binary, &output, options.version.as_deref().unwrap_or(version))?,
    }
    Ok(())
}

fn parse(arguments: &[String]) -> anyhow::Result<Options> {
    let mut rest = arguments.iter();
    let what = match rest.next().map(String::as_str) {
        Some("static") => What::Static,
        Some("image") => What::Image,
        Some("deb") => What::Deb,
        other => bail!("dist {}: say static, image or deb\n{USAGE}", other.unwrap_or_default()),
    };
    let mut options = Options::of(what);
    while let Some(option) = rest.next() {
        let value = rest.next().with_context(|| format!("{option} needs a value"))?.clone();
        match (option.as_str(), what) {
            ("--profile", _) => options.profile = value,
            ("--binary", What::Image | What::Deb) => options.binary = Some(value.into()),
            ("--tag", What::Image) => options.tag = Some(value),
            ("--program", What::Image) if image::PROGRAMS.contains(&value.as_str()) => options.program = value,
            ("--program", What::Image) => bail!("--program {value}: one of {}", image::PROGRAMS.join(", ")),
            ("--with", What::Image) if value == "git" => options.with_git = true,
            ("--version", What::Deb) => options.version = Some(value),
            (other, _) => bail!("unknown option {other}\n{USAGE}"),
        }
    }
    Ok(options)
}

/// The workspace's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Option<Options>) {
        let arguments: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        assert_eq!(parse(&arguments).ok(), expected, "{line}");
    }

    #[test]
    fn options_are_taken_or_refused() {
        let of = Options::of;
        check("static", Some(of(What::Static)));
        check("static --profile dev", Some(Options { profile: "dev".into(), ..of(What::Static) }));
        check("image --tag a:b", Some(Options { tag: Some("a:b".into()), ..of(What::Image) }));
        check("image --program namerd", Some(Options { program: "namerd".into(), ..of(What::Image) }));
        check("image --with git", Some(Options { with_git: true, ..of(What::Image) }));
        check("deb --binary x", Some(Options { binary: Some("x".into()), ..of(What::Deb) }));
        for wrong in [
            "",
            "all",
            "static --tag a:b",
            "static --binary x",
            "image --tag",
            "deb --tag x",
            "image --version 1",
            "image --program sh",
            "image --with curl",
            "deb --with git",
        ] {
            check(wrong, None);
        }
    }
}
