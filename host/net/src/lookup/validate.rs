//! Local validation of an answer (RFC 4035, section 5): hickory builds the chain of signatures from an anchor, its questions go the
//! way of ours, and what it found is put in words here.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::Stream;
use futures_util::stream;
use hickory_net::dnssec::DnssecDnsHandle;
use hickory_net::runtime::TokioRuntimeProvider;
use hickory_net::xfer::FirstAnswer;
use hickory_net::{DnsError, DnsHandle, NetError};
use hickory_proto::dnssec::rdata::DNSSECRData;
use hickory_proto::dnssec::{Proof, TrustAnchors};
use hickory_proto::op::{DnsRequest, DnsRequestOptions, DnsResponse, Message, OpCode};
use hickory_proto::rr::{RData, Record, RecordType};
use tokio::task::JoinHandle;
use tracing::instrument::WithSubscriber;
use tracing::subscriber::NoSubscriber;

use super::{Addressee, Asked, Reply, refused, with_signatures};
use crate::session::Run;
use crate::types::{Answer, Cause, Failure, Question, Security, Transport};

/// Asks, and validates. An answer that was cut off is asked for again over TCP, on the way up the chain too.
pub(crate) async fn validate(
    run: &Arc<Run>,
    question: Question,
    anchors: &[String],
) -> Result<Answer, Failure> {
    let asked = Asked::new(run, &question)?;
    let anchors = match anchors {
        [] => TrustAnchors::default(),
        given => TrustAnchors::from_str(&given.iter().map(|text| line(text)).collect::<String>()).map_err(|e| {
            refused(format!(
                "the trust anchors cannot be read: {e}; write DNSKEY records: \"example.com. 3600 IN DNSKEY 257 3 13 …\""
            ))
        })?,
    };
    let way = Way {
        run: run.clone(),
        to: asked.to.clone(),
        recursion_desired: question.recursion_desired,
        seen: Arc::default(),
    };
    let handle = DnssecDnsHandle::with_trust_anchor(way.clone(), Arc::new(anchors));
    let mut options = DnsRequestOptions::default();
    options.use_edns = true;
    options.max_request_depth = DEPTH;
    let request = DnsRequest::from_query(asked.query.clone(), options);
    // hickory warns of each bogus answer, at length; whoever asked is told, and the log need not be.
    let validating =
        async move { handle.send(request).first_answer().await }.with_subscriber(NoSubscriber::default());
    // On a stack of its own: a zone a frame, and a component's run has little.
    let validated = Task(tokio::spawn(validating)).ended().await?;
    let mut seen = std::mem::take(&mut *way.seen());
    // The first question is ours; without an answer to it there is nothing to validate.
    let Some(reply) = seen.first else {
        return Err(seen.failure.unwrap_or_else(|| refused(format!("{} was not asked", question.name))));
    };
    // What ended on this side says nothing about the zone.
    if let Some(failure) = seen.failure.take_if(|failure| failure.cause.is_ours()) {
        return Err(failure);
    }
    let (security, records) = match &validated {
        Ok(response) => judged(response),
        Err(NetError::Dns(DnsError::Nsec { response, proof, .. })) => (said(*proof), records(response)),
        Err(_) => (Security::Bogus, Vec::new()),
    };
    let security = match (security, &seen.failure) {
        (Security::Bogus, Some(_)) => Security::Indeterminate,
        (security, _) => security,
    };
    let why = match (security, seen.failure) {
        (Security::Secure, _) => "the signatures lead to a trust anchor".to_owned(),
        (Security::Insecure, _) => "the zone is not signed, as the zone above it proves".to_owned(),
        (Security::Indeterminate, Some(failure)) => failure.message,
        _ => defect(&seen.signatures, &records),
    };
    Ok(Answer { security: Some((security, why)), ..reply.answer() })
}

/// A task that ends with whoever waits for it.
struct Task<T>(JoinHandle<T>);

impl<T> Task<T> {
    async fn ended(mut self) -> Result<T, Failure> {
        (&mut self.0).await.map_err(|_| {
            let message = "the validation of the answer broke off".to_owned();
            Failure { cause: Cause::Other(message.clone()), phase: None, message }
        })
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A record on a line of its own, the name complete and the class said, as hickory reads it.
fn line(text: &str) -> String {
    let mut words: Vec<&str> = text.split_whitespace().collect();
    words
        .iter_mut()
        .skip(1)
        .take(2)
        .filter(|word| word.eq_ignore_ascii_case("IN"))
        .for_each(|word| *word = "IN");
    if words.get(1).is_some_and(|word| word.eq_ignore_ascii_case("DNSKEY")) {
        words.insert(1, "IN");
    }
    let line = words.join(" ");
    match line.split_once(' ') {
        Some((name, rest)) if !name.ends_with('.') => format!("{name}. {rest}\n"),
        _ => format!("{line}\n"),
    }
}

/// The whole answer is as good as its worst record. What proves that there is no record stands in the authority section.
fn judged(response: &DnsResponse) -> (Security, Vec<Record>) {
    let of = |records: &[Record]| {
        let signed = records.iter().filter(|record| record.record_type() != RecordType::RRSIG);
        signed.map(|record| record.proof).min_by_key(|proof| rank(*proof))
    };
    let proof = match of(&response.answers) {
        Some(proof) => proof,
        None => of(&response.authorities).unwrap_or(Proof::Insecure),
    };
    (said(proof), records(response))
}

/// Worst first.
fn rank(proof: Proof) -> u8 {
    match proof {
        Proof::Bogus => 0,
        Proof::Indeterminate => 1,
        Proof::Insecure => 2,
        Proof::Secure => 3,
    }
}

fn said(proof: Proof) -> Security {
    match proof {
        Proof::Secure => Security::Secure,
        Proof::Insecure => Security::Insecure,
        Proof::Bogus => Security::Bogus,
        Proof::Indeterminate => Security::Indeterminate,
    }
}

fn records(response: &DnsResponse) -> Vec<Record> {
    response.answers.iter().chain(&response.authorities).cloned().collect()
}

/// What is wrong with a chain that hickory calls bogus; it keeps the reason to itself.
fn defect(signatures: &[Signature], records: &[Record]) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut untimely = signatures.iter().filter_map(|signature| signature.untimely(now));
    if let Some(words) = untimely.next() {
        return words;
    }
    let covered: BTreeSet<_> =
        signatures.iter().map(|signature| (signature.name.as_str(), signature.covers)).collect();
    let bare = records.iter().find(|record| {
        let name = record.name.to_lowercase().to_ascii();
        record.record_type() != RecordType::RRSIG && !covered.contains(&(name.as_str(), record.record_type()))
    });
    match (bare, signatures.first()) {
        (Some(record), _) => {
            format!("{} {} has no signature, and should have one", record.name, record.record_type())
        }
        (None, None) => "there are no signatures, and should be".to_owned(),
        (None, Some(_)) => {
            "a signature does not fit what it covers, or no key of its zone leads to a trust anchor"
                .to_owned()
        }
    }
}

/// What is said of an RRSIG (RFC 4034, section 3) that was seen on the way.
#[derive(Clone)]
struct Signature {
    /// In lower case.
    name: String,
    covers: RecordType,
    inception: u32,
    expiration: u32,
}

impl Signature {
    fn of(record: &Record) -> Option<Self> {
        let RData::DNSSEC(DNSSECRData::RRSIG(signature)) = &record.data else { return None };
        let input = signature.input();
        Some(Self {
            name: record.name.to_lowercase().to_ascii(),
            covers: input.type_covered,
            inception: input.sig_inception.get(),
            expiration: input.sig_expiration.get(),
        })
    }

    /// Why the signature is not good at that time, in seconds since 1970; the RFC's 32 bits count in a circle.
    fn untimely(&self, now: u64) -> Option<String> {
        let since = |at: u32| (now as u32).wrapping_sub(at).cast_signed();
        let about = format!("the signature of {} {}", self.name, self.covers);
        match (since(self.expiration), since(self.inception)) {
            (past, _) if past > 0 => Some(format!("{about} expired {} ago", length(past))),
            (_, ahead) if ahead < 0 => Some(format!("{about} is not valid for another {}", length(-ahead))),
            _ => None,
        }
    }
}

fn length(seconds: i32) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} minutes", seconds / 60),
        7200..172_800 => format!("{} hours", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// The way of hickory's questions: ours, to the same server.
#[derive(Clone)]
struct Way {
    run: Arc<Run>,
    to: Addressee,
    recursion_desired: bool,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// The answer to the first question.
    first: Option<Reply>,
    /// The first question that was not answered.
    failure: Option<Failure>,
    signatures: Vec<Signature>,
}

impl Way {
    async fn ask(self, request: DnsRequest) -> Result<DnsResponse, NetError> {
        let (mut message, _) = request.into_parts();
        message.metadata.recursion_desired = self.recursion_desired;
        // A resolver that validates itself would keep back what it finds bogus, and the reason with it.
        message.metadata.checking_disabled = true;
        message.set_edns(with_signatures());
        let answered = self.carried(&message).await;
        let mut seen = self.seen();
        match answered {
            Ok(reply) => {
                let records = reply.message.answers.iter().chain(&reply.message.authorities);
                let room = MOST_SIGNATURES.saturating_sub(seen.signatures.len());
                let signatures: Vec<_> = records.filter_map(Signature::of).take(room).collect();
                seen.signatures.extend(signatures);
                let response = DnsResponse::from_message(reply.message.clone())?;
                seen.first.get_or_insert(reply);
                Ok(response)
            }
            Err(failure) => {
                let words = failure.message.clone();
                seen.failure.get_or_insert(failure);
                Err(words.into())
            }
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn carried(&self, message: &Message) -> Result<Reply, Failure> {
        let first = self.seen().first.is_none();
        let to = Addressee { beside: !first, ..self.to.clone() };
        let reply = to.put(&self.run, message).await?;
        if !reply.message.metadata.truncation || to.transport != Transport::Udp {
            return Ok(reply);
        }
        Addressee { transport: Transport::Tcp, ..to }.put(&self.run, message).await
    }
}

impl DnsHandle for Way {
    type Response = Pin<Box<dyn Stream<Item = Result<DnsResponse, NetError>> + Send>>;
    type Runtime = TokioRuntimeProvider;

    fn send(&self, request: DnsRequest) -> Self::Response {
        debug_assert_eq!(request.op_code, OpCode::Query);
        Box::pin(stream::once(self.clone().ask(request)))
    }
}

/// Zones between a name and the root; names have 127 labels at most, and nobody delegates each.
const DEPTH: usize = 16;
/// For the words only.
const MOST_SIGNATURES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(inception: u32, expiration: u32) -> Signature {
        Signature { name: "shop.test.".to_owned(), covers: RecordType::A, inception, expiration }
    }

    #[test]
    fn a_signature_out_of_its_time_is_named() {
        for (inception, expiration, words) in [
            (1000, 3000, None),
            (1000, 1500, Some("the signature of shop.test. A expired 8 minutes ago")),
            (1000, 1999, Some("the signature of shop.test. A expired 1 s ago")),
            (5600, 9000, Some("the signature of shop.test. A is not valid for another 60 minutes")),
            (u32::MAX - 10, 3000, None),
        ] {
            assert_eq!(signature(inception, expiration).untimely(2000).as_deref(), words);
        }
        let later = 3 * 86_400 + 100;
        let words = signature(0, 100).untimely(later).unwrap();
        assert_eq!(words, "the signature of shop.test. A expired 3 days ago");
    }

    #[test]
    fn an_anchor_is_read_as_people_write_it() {
        for written in [
            "shop.test. IN DNSKEY 257 3 13 AwEA",
            "shop.test DNSKEY 257  3 13 AwEA",
            "shop.test in DNSKEY 257 3 13 AwEA",
        ] {
            assert!(line(written).eq_ignore_ascii_case("shop.test. IN DNSKEY 257 3 13 AwEA\n"), "{written}");
        }
        assert_eq!(line(". 3600 IN DNSKEY 257 3 8 AwEA"), ". 3600 IN DNSKEY 257 3 8 AwEA\n");
    }

    #[test]
    fn an_answer_is_as_good_as_its_worst_record() {
        let mut proofs = [Proof::Secure, Proof::Insecure, Proof::Indeterminate, Proof::Bogus];
        proofs.sort_by_key(|proof| rank(*proof));
        assert_eq!(proofs, [Proof::Bogus, Proof::Indeterminate, Proof::Insecure, Proof::Secure]);
    }
}
