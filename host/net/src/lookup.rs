//! Questions to name servers.
use std::sync::Arc;

use crate::session::{Run, fail};
use crate::types::{Answer, Cause, Failure, Phase, Question};

pub(crate) async fn ask(_run: &Arc<Run>, question: Question) -> Result<Answer, Failure> {
    Err(fail(
        Cause::Other("not spoken yet".to_owned()),
        Phase::Send,
        format!("cannot ask for {}", question.name),
    ))
}
