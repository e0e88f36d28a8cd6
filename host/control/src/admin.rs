//! What people ask for, as the API and the page show it: agents, monitors, results and gaps.

mod agents;
mod monitors;
mod results;

use wire::Problem;

use crate::monitors::nearest;
pub(crate) use results::Wanted;

pub(crate) fn no_such<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a String>) -> Problem {
    let known: Vec<_> = known.map(String::as_str).collect();
    let hint = nearest(name, &known).map_or(String::new(), |near| format!(": did you mean {near}?"));
    Problem::new(Problem::NOT_FOUND, format!("there is no {what} {name:?}{hint}"))
}
