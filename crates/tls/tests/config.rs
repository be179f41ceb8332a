//! What is wrong with sections and files is said by key, with the file and the way out; and files that change.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use testkit::certificates::{Authority, Issued, Wish};
use testkit::until::until;
use tls::client::Naming;
use tls::{Error, Reloader, client, server};

fn shown(result: Result<(), Error>, directory: &Path) -> String {
    match result {
        Ok(()) => "good".to_owned(),
        Err(error) => error.to_string().replace(&format!("{}/", directory.display()), ""),
    }
}

fn server_config(certificate: PathBuf, key: PathBuf) -> server::Config {
    server::Config {
        cert_path: certificate,
        key_path: key,
        intermediate_certs_path: None,
        ca_cert_path: None,
        ciphers: None,
        require_client_auth: false,
        protocols: None,
    }
}

#[test]
fn a_server_says_what_is_wrong_with_its_files() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let authority = Authority::new("ca");
    authority.write(place, "ca.pem");
    authority.server("web").write(place, "web");
    authority.server("other").write(place, "other");
    std::fs::write(place.join("empty.pem"), "").unwrap();
    std::fs::write(place.join("torn.pem"), "-----BEGIN CERTIFICATE-----\nMIIB").unwrap();
    std::fs::write(place.join("secret.key"), "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n").unwrap();
    let check = |certificate: &str, key: &str, expected: &str| {
        let config = server_config(place.join(certificate), place.join(key));
        let found = shown(server::Live::start(&config, "tls", &Reloader::default()).map(drop), place);
        assert!(found.contains(expected), "{certificate}, {key}: {found}");
    };
    check("web.pem", "web.key", "good");
    check("none.pem", "web.key", "certPath: none.pem: there is no such file");
    check("web.pem", "none.key", "keyPath: none.key: there is no such file");
    check("empty.pem", "web.key", "certPath: empty.pem: holds no certificate");
    check("torn.pem", "web.key", "certPath: torn.pem: is no proper PEM");
    check("web.key", "web.key", "certPath: web.key: holds a private key and no certificate");
    check("web.pem", "web.pem", "keyPath: web.pem: holds a certificate and no private key");
    check("web.pem", "secret.key", "keyPath: secret.key: the key is encrypted");
    check("web.pem", "other.key", "keyPath: other.key: does not belong to the certificate in web.pem");
    let config = server::Config { require_client_auth: true, ..server_config("web.pem".into(), "web.key".into()) };
    assert_eq!(
        shown(config.check(), place),
        "caCertPath: is missing: `requireClientAuth` needs to know who may have signed clients' certificates"
    );
}

#[test]
fn a_client_says_what_makes_no_sense() {
    let check = |config: client::Config, expected: &str| {
        assert_eq!(shown(config.check(Naming::CommonName), Path::new("/")), expected);
    };
    let auth =
        client::ClientAuth { cert_path: "c.pem".into(), key_path: "c.key".into(), intermediate_certs_path: None };
    let named = client::Config { common_name: Some("web".to_owned()), ..client::Config::default() };
    check(named.clone(), "good");
    check(client::Config::default(), "commonName: tls is configured with validation but `commonName` is not set");
    check(client::Config { enabled: Some(false), ..client::Config::default() }, "good");
    check(client::Config { disable_validation: Some(true), ..client::Config::default() }, "good");
    check(
        client::Config { disable_validation: Some(true), client_auth: Some(auth), ..client::Config::default() },
        "clientAuth: makes no sense with `disableValidation`: nobody proves himself to a stranger. Take one out",
    );
    check(
        client::Config { trust_certs: Some(vec!["a".into()]), trust_certs_bundle: Some("b".into()), ..named.clone() },
        "trustCerts: `trustCertsBundle` is given, too: take this one out, it is the older key",
    );
    check(
        client::Config { common_name: Some("a b".to_owned()), ..client::Config::default() },
        "commonName: `a b` is neither a host name nor an IP address",
    );
    check(
        client::Config { protocols: Some(vec!["SSLv3".to_owned()]), ..named.clone() },
        "protocols[0]: `SSLv3` is broken, and not supported: use TLSv1.2, TLSv1.3 or both",
    );
    let directory = tempfile::tempdir().unwrap();
    let config = client::Config { trust_certs: Some(vec![directory.path().to_owned()]), ..named };
    let found = client::Live::start(&config, Naming::CommonName, "tls", &Reloader::default());
    assert!(shown(found.map(drop), Path::new("/")).starts_with("trustCerts[0]: "));
}

#[test]
fn all_forms_of_keys_are_read() {
    // PKCS#1 and SEC1 as openssl writes them.
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let commands = [
        (
            "rsa",
            "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=a -keyout k8 -out rsa.pem && openssl rsa -in k8 -traditional -out rsa.key",
        ),
        (
            "ec",
            "openssl ecparam -name prime256v1 -genkey -out ec.key && openssl req -x509 -key ec.key -days 2 -subj /CN=a -out ec.pem",
        ),
    ];
    for (name, command) in commands {
        let ran = std::process::Command::new("sh").args(["-ec", command]).current_dir(place).output().unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        let text = std::fs::read_to_string(place.join(format!("{name}.key"))).unwrap();
        assert!(text.contains(if name == "rsa" { "BEGIN RSA PRIVATE KEY" } else { "BEGIN EC PRIVATE KEY" }), "{text}");
        let config = server_config(place.join(format!("{name}.pem")), place.join(format!("{name}.key")));
        server::Live::start(&config, "tls", &Reloader::default()).unwrap();
    }
}

#[test]
fn changed_files_are_used_and_broken_ones_are_not() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let authority = Authority::new("ca");
    let files = authority.server("first").write(place, "web");
    let reloader = Reloader::default();
    let config = server_config(files.certificate.clone(), files.key);
    let live = server::Live::start(&config, "routers[0].servers[0].tls", &reloader).unwrap();
    let subject = || reloader.status()[0].certificate.clone().unwrap().subject;
    assert_eq!(subject(), "CN=first,O=Example");
    let before = live.config();

    authority.server("second").write(place, "web");
    until("the second", Duration::from_secs(10), || match subject() {
        found if found == "CN=second,O=Example" => Ok(()),
        found => Err(found),
    });
    assert!(!std::sync::Arc::ptr_eq(&before, &live.config()));

    let good = live.config();
    std::fs::write(&files.certificate, "torn").unwrap();
    let stale = until("the failure", Duration::from_secs(10), || reloader.status()[0].stale.clone().ok_or("fresh"));
    assert!(stale.starts_with("routers[0].servers[0].tls.certPath: "), "{stale}");
    assert!(std::sync::Arc::ptr_eq(&good, &live.config()));
    assert_eq!(subject(), "CN=second,O=Example");

    authority.server("third").write(place, "web");
    until("the third", Duration::from_secs(10), || match reloader.status()[0].stale.clone() {
        None => Ok(()),
        Some(stale) => Err(stale),
    });
    assert_eq!(subject(), "CN=third,O=Example");
}

#[test]
fn kubernetes_secrets_turn_a_link() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path();
    let authority = Authority::new("ca");
    let fill = |name: &str| {
        std::fs::create_dir(place.join(name)).unwrap();
        authority.server(name).write(&place.join(name), "tls");
    };
    fill("one");
    std::os::unix::fs::symlink("one", place.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/tls.pem", place.join("tls.pem")).unwrap();
    std::os::unix::fs::symlink("..data/tls.key", place.join("tls.key")).unwrap();
    let reloader = Reloader::default();
    let config = server_config(place.join("tls.pem"), place.join("tls.key"));
    let _live = server::Live::start(&config, "tls", &reloader).unwrap();
    fill("two");
    std::os::unix::fs::symlink("two", place.join("..data_tmp")).unwrap();
    std::fs::rename(place.join("..data_tmp"), place.join("..data")).unwrap();
    until("the other secret", Duration::from_secs(10), || {
        let status = &reloader.status()[0];
        if status.reloads == 1 && status.failures == 0 { Ok(()) } else { Err(status.stale.clone()) }
    });
}

#[test]
fn a_client_certificate_is_forwarded_as_the_original_writes_it() {
    use tls::rustls::pki_types::{CertificateDer, pem::PemObject};
    let names = ["web.example.org", "spiffe://example.org/web", "127.0.0.1"];
    let issued = Issued::by_itself(&Wish { name: "a, \"b\"", names: &names, ..Wish::default() });
    let der = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
    let value = tls::forwarded(&der);
    let (hash, rest) = value.split_once(';').unwrap();
    assert!(hash.len() == 5 + 64 && hash[5..].bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase()), "{hash}");
    assert_eq!(rest, r#"DNS=web.example.org;SAN=spiffe://example.org/web;Subject="CN=a\, \"b\",O=Example""#);
}
