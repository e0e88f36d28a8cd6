//! The rows. Targets are those that the product was designed for; one that is not met stays here, and is printed as not met.

use anyhow::Result;
use servers::{Authority, Knot, Manner, Nginx, TcpServer};

use crate::blackbox::Blackbox;
use crate::probe::{Order, Pace, Probe, Way};
use crate::row::{Bound, Effort, Figure, Of, Row, Target};
use crate::{agent, control, disk, drain};

/// All of them, in the order of the table.
pub(crate) fn all() -> Vec<Row> {
    vec![
        row("http keyword, saturated", HTTP, http_saturated),
        row("http keyword, 167 a second", PACED, http_paced),
        row("https keyword, saturated", HTTPS, https),
        row("http, body of 64 KiB, saturated", &[], large),
        row("tcp, saturated", &[], tcp),
        row("dns, saturated", &[], dns),
        row("an instance and nothing else", INSTANCE, instance),
        row("agent, 10,000 monitors", agent::TEN_THOUSAND, agent::ten_thousand),
        row("agent, 100,000 monitors", agent::HUNDRED_THOUSAND, agent::hundred_thousand),
        row("agent, schedule of an idle machine", agent::IDLE, agent::idle),
        row("spool", disk::TARGETS, disk::spool),
        row("drain of 10,000 at 50 ms round trip", drain::TARGETS, drain::drain),
        row("control plane", control::TARGETS, control::control),
    ]
}

const fn row(name: &'static str, targets: &'static [Target], run: fn(&Effort) -> Result<Vec<Figure>>) -> Row {
    Row { name, targets, run }
}

/// A target.
pub(crate) const fn target(of: Of, bound: Bound) -> Target {
    Target { of, bound }
}

const HTTP: &[Target] = &[
    target(Of::Difference("picket", "native"), Bound::AtMost(12.0)),
    target(Of::Ratio("blackbox", "picket"), Bound::AtLeast(12.0)),
];
const PACED: &[Target] = &[target(Of::Ratio("blackbox", "picket"), Bound::AtLeast(4.0))];
const HTTPS: &[Target] = &[
    target(Of::Ratio("picket", "native"), Bound::AtMost(1.08)),
    target(Of::Ratio("blackbox", "picket"), Bound::AtLeast(3.5)),
];
const INSTANCE: &[Target] = &[target(Of::Figure("picket"), Bound::AtMost(12.0))];

fn http_saturated(effort: &Effort) -> Result<Vec<Figure>> {
    let nginx = Nginx::start(&Authority::new()?)?;
    compare(effort, &page(nginx.url("/"), None), SATURATED)
}

/// 10,000 monitors every 60 s.
fn http_paced(effort: &Effort) -> Result<Vec<Figure>> {
    let nginx = Nginx::start(&Authority::new()?)?;
    compare(effort, &page(nginx.url("/"), None), Pace::PerSecond(167))
}

fn https(effort: &Effort) -> Result<Vec<Figure>> {
    let authority = Authority::new()?;
    let nginx = Nginx::start(&authority)?;
    compare(effort, &page(nginx.tls_url("/"), Some(authority.pem())), SATURATED)
}

fn large(effort: &Effort) -> Result<Vec<Figure>> {
    let nginx = Nginx::start(&Authority::new()?)?;
    let probe = Probe::Http { url: nginx.url("/64k"), ca: None, keyword: "end".to_owned() };
    compare(effort, &probe, SATURATED)
}

fn tcp(effort: &Effort) -> Result<Vec<Figure>> {
    let server = TcpServer::start(Manner::Close)?;
    compare(effort, &Probe::Tcp { port: server.port() }, SATURATED)
}

fn dns(effort: &Effort) -> Result<Vec<Figure>> {
    let knot = Knot::start()?;
    let (name, address) = ("www.picket.test".to_owned(), "192.0.2.10".to_owned());
    compare(effort, &Probe::Dns { port: knot.port(), name, address }, SATURATED)
}

fn instance(effort: &Effort) -> Result<Vec<Figure>> {
    let order = Order { way: Way::Picket, probe: Probe::Nothing, pace: SATURATED, seconds: effort.seconds };
    let values = (0..effort.rounds).map(|_| order.give()?.each()).collect::<Result<_>>()?;
    Ok(vec![Figure { name: "picket", unit: "µs", values }])
}

fn page(url: String, ca: Option<String>) -> Probe {
    Probe::Http { url, ca, keyword: "Welcome".to_owned() }
}

/// The three ways in turn, so that what the machine does beside hits them alike.
fn compare(effort: &Effort, probe: &Probe, pace: Pace) -> Result<Vec<Figure>> {
    let exporter = Blackbox::start(probe)?;
    let mut figures =
        ["native", "picket", "blackbox"].map(|name| Figure { name, unit: "µs", values: Vec::new() });
    let by = |way| Order { way, probe: probe.clone(), pace, seconds: effort.seconds };
    let (native, picket) = (by(Way::Native), by(Way::Picket));
    for _ in 0..effort.rounds {
        figures[0].values.push(native.give()?.each()?);
        figures[1].values.push(picket.give()?.each()?);
        figures[2].values.push(exporter.measure(pace, effort.seconds)?.each()?);
    }
    Ok(figures.into())
}

/// What keeps two processors busy without a queue that measures itself.
const SATURATED: Pace = Pace::Saturated(16);
