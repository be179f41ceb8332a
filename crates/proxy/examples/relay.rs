//! The smallest data plane: `relay LISTEN ENDPOINT [WORKERS]` sends every name to one endpoint.
//!
//! `cargo run --profile fast -p proxy --example relay -- 127.0.0.1:8101 127.0.0.1:9000`

use std::sync::Arc;

use discovery::{Precedence, Surroundings};
use names::Dtab;
use naming::ConfiguredInterpreter;
use proxy::settings::{Router, Server, Settings};
use telemetry::Registry;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(listen), Some(endpoint)) = (arguments.next(), arguments.next()) else {
        return Err("relay LISTEN ENDPOINT [WORKERS]".into());
    };
    let workers = arguments.next().map_or(Ok(1), |text| text.parse())?;
    let (host, port) = endpoint.rsplit_once(':').ok_or("ENDPOINT is HOST:PORT")?;
    let mut router = Router::new("relay");
    router.dtab = Dtab::read(&format!("/host/* => /$/inet/{host}/{port}; /svc => /host"))?;
    router.servers = vec![Server { address: listen.parse()?, ..Server::default() }];
    let namers = discovery::build_namers(&[], Precedence::LastWins, &Surroundings::default())?;
    let interpreter = Arc::new(ConfiguredInterpreter::new(None, namers));
    let registry = Registry::default();
    let running = proxy::start(Settings { routers: vec![router] }, vec![interpreter], &registry, workers)?;
    println!("listening on {}", running.servers()[0].address);
    tokio::signal::ctrl_c().await?;
    running.drain(std::time::Duration::from_secs(10)).await;
    Ok(())
}
