//! HTTP exchanges.
use std::sync::Arc;

use crate::session::{Run, fail};
use crate::types::{Cause, Failure, Phase, Request, Response};

pub(crate) async fn send(_run: &Arc<Run>, request: Request) -> Result<Response, Failure> {
    Err(fail(Cause::Other("not spoken yet".to_owned()), Phase::Send, format!("cannot reach {}", request.url)))
}
