//! `describe`: pure, quick, and the same every time.

use std::time::Duration;

use super::Found;
use crate::subject::Subject;

/// Processor time that a description may take: the sandbox ends it after a second, and an agent loads many checks at its start.
const QUICK: Duration = Duration::from_millis(250);

pub(super) async fn quick(subject: &Subject) -> Found {
    Ok(match subject.sandbox.describe_again(&subject.plugin).await {
        Ok(again) if again.cpu > QUICK => {
            vec![format!("describe computed for {:?}, at most {QUICK:?} are allowed", again.cpu)]
        }
        Ok(_) => Vec::new(),
        Err(fault) => vec![fault.to_string()],
    })
}

pub(super) async fn pure(subject: &Subject) -> Found {
    Ok(match subject.sandbox.describe_again(&subject.plugin).await {
        Ok(again) if again.calls > 0 => {
            vec![format!("describe made {} calls to picket:net; it may make none", again.calls)]
        }
        Ok(_) => Vec::new(),
        Err(fault) => vec![fault.to_string()],
    })
}

pub(super) async fn twice(subject: &Subject) -> Found {
    let first = subject.sandbox.describe_again(&subject.plugin).await;
    let second = subject.sandbox.describe_again(&subject.plugin).await;
    Ok(match (first, second) {
        (Ok(first), Ok(second)) => {
            let differ = first.texts.iter().zip(&second.texts).filter(|(first, second)| first != second);
            differ
                .map(|((field, first), (_, second))| {
                    let at = first.bytes().zip(second.bytes()).take_while(|(a, b)| a == b).count();
                    format!("describe says another {field} the second time, from byte {at} on")
                })
                .collect()
        }
        (Err(fault), _) | (_, Err(fault)) => vec![fault.to_string()],
    })
}
