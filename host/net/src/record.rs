//! Resource records as text and as bytes (RFC 1035, section 5; RFC 3597). Who is asked for them is said in `lookup`.

use std::str::FromStr;

use hickory_proto::rr::rdata::SVCB;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};

use crate::types::Entry;

/// The type of that name, in any case, or of that number ("TYPE65"); none for what is no single answer.
pub(crate) fn kind(text: &str) -> Option<RecordType> {
    let text = text.to_ascii_uppercase();
    match text.strip_prefix("TYPE").map(u16::from_str) {
        Some(number) => number.ok().map(RecordType::from),
        None => RecordType::from_str(&text)
            .ok()
            .filter(|kind| !matches!(kind, RecordType::AXFR | RecordType::IXFR)),
    }
}

fn kind_name(kind: RecordType) -> String {
    match kind {
        RecordType::Unknown(number) => format!("TYPE{number}"),
        kind => kind.to_string(),
    }
}

/// A section, without the OPT record.
pub(crate) fn entries(records: &[Record]) -> Vec<Entry> {
    let shown = records.iter().filter(|record| record.record_type() != RecordType::OPT);
    shown.map(entry).collect()
}

fn entry(record: &Record) -> Entry {
    let rdata = wire(&record.data);
    let name = absolute(record.name.clone()).to_ascii();
    let data = match &record.data {
        RData::Unknown { .. } | RData::NULL(_) => unknown(record.record_type(), &rdata),
        RData::DNSSEC(_) if is_key(record.record_type()) => unknown(record.record_type(), &rdata),
        RData::HTTPS(https) => service(https),
        RData::SVCB(svcb) => service(svcb),
        RData::TXT(txt) => txt.txt_data.iter().map(|part| String::from_utf8_lossy(part)).collect(),
        known => known.to_string(),
    };
    Entry { name, kind: kind_name(record.record_type()), ttl: record.ttl, data, rdata }
}

/// Names in it uncompressed, as in RFC 3597, section 4.
fn wire(data: &RData) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_name_encoding(NameEncoding::Uncompressed);
    match data.emit(&mut encoder) {
        Ok(()) => bytes,
        // It was decoded from a message, which has room for it.
        Err(_) => Vec::new(),
    }
}

/// RFC 9460, section 2.1, without quotes where none are needed.
fn service(svcb: &SVCB) -> String {
    let parameters = svcb.svc_params.iter().map(|(key, value)| {
        let key = key.to_string().replace("unknown", "key");
        match value.to_string().trim_end_matches(',') {
            "" => format!(" {key}"),
            value => format!(" {key}={value}"),
        }
    });
    format!("{} {}{}", svcb.svc_priority, svcb.target_name, parameters.collect::<String>())
}

fn is_key(kind: RecordType) -> bool {
    use RecordType::{CDNSKEY, CDS, DNSKEY, DS};
    matches!(kind, DS | CDS | DNSKEY | CDNSKEY)
}

/// The presentation of DS and its kin (RFC 4034, section 5.3) and of DNSKEY (section 2.2), all of it as numbers, and RFC 3597,
/// section 5, for what hickory keeps as bytes.
fn unknown(kind: RecordType, rdata: &[u8]) -> String {
    let word = |at: usize| u16::from_be_bytes([rdata[at], rdata[at + 1]]);
    match kind {
        RecordType::DS | RecordType::CDS if rdata.len() > 4 => {
            format!("{} {} {} {}", word(0), rdata[2], rdata[3], hex::encode_upper(&rdata[4..]))
        }
        RecordType::DNSKEY | RecordType::CDNSKEY if rdata.len() > 4 => {
            use base64::Engine;
            let key = base64::engine::general_purpose::STANDARD.encode(&rdata[4..]);
            format!("{} {} {} {key}", word(0), rdata[2], rdata[3])
        }
        _ => format!("\\# {} {}", rdata.len(), hex::encode(rdata)).trim_end().to_owned(),
    }
}

pub(crate) fn absolute(mut name: Name) -> Name {
    name.set_fqdn(true);
    name
}
