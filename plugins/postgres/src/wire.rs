//! Messages of PostgreSQL's frontend/backend protocol 3.0, as bytes and as values: those that logging in and simple queries
//! need. Reads and writes nothing.

/// What the server says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Message {
    /// AuthenticationOk.
    Welcome,
    /// AuthenticationCleartextPassword.
    AskCleartext,
    /// AuthenticationMD5Password, with its salt.
    AskMd5(Vec<u8>),
    /// AuthenticationSASL, with the mechanisms.
    AskSasl(Vec<String>),
    /// AuthenticationSASLContinue.
    SaslContinue(String),
    /// AuthenticationSASLFinal.
    SaslFinal(String),
    /// Another kind of authentication, by number.
    AskOther(u32),
    /// ErrorResponse.
    Error(Report),
    /// ParameterStatus.
    Parameter(String, String),
    /// DataRow, in text format.
    Row(Row),
    /// ReadyForQuery.
    Ready,
    /// What may be passed over: notices, descriptions of rows, keys for cancelling.
    Other,
}

/// One row; none is NULL.
pub(crate) type Row = Vec<Option<String>>;

/// The columns of a row as values; none where a column is NULL, missing, or something else.
#[derive(Clone, Copy)]
pub(crate) struct Columns<'a>(pub &'a [Option<String>]);

impl<'a> Columns<'a> {
    pub(crate) fn text(self, index: usize) -> Option<&'a str> {
        self.0.get(index)?.as_deref()
    }

    /// A finite number.
    pub(crate) fn number(self, index: usize) -> Option<f64> {
        self.text(index)?.parse().ok().filter(|number: &f64| number.is_finite())
    }

    /// A whole number of bytes.
    pub(crate) fn position(self, index: usize) -> Option<u64> {
        self.text(index)?.parse().ok()
    }

    pub(crate) fn count(self, index: usize) -> Option<u32> {
        self.text(index)?.parse().ok()
    }

    pub(crate) fn flag(self, index: usize) -> Option<bool> {
        match self.text(index)? {
            "t" => Some(true),
            "f" => Some(false),
            _ => None,
        }
    }

    /// A setting in milliseconds as seconds; 0, which is none, where it is missing.
    pub(crate) fn timeout(self, index: usize) -> f64 {
        self.number(index).unwrap_or(0.0) / 1000.0
    }
}

/// An error of the server.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Report {
    /// SQLSTATE.
    pub code: String,
    /// One line.
    pub message: String,
}

/// The longest message that is read; ours are a few hundred bytes.
pub(crate) const LONGEST: u32 = 1 << 20;

/// SSLRequest.
pub(crate) const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Type and length of what follows a message's first five bytes; none when no PostgreSQL server would send that.
pub(crate) fn header(bytes: &[u8]) -> Option<(u8, u32)> {
    let (kind, length) = bytes.split_first()?;
    let length = u32::from_be_bytes(length.try_into().ok()?).checked_sub(4)?;
    (length <= LONGEST && kind.is_ascii_alphanumeric()).then_some((*kind, length))
}

/// Reads the body of a message; none when it is cut off or malformed.
pub(crate) fn message(kind: u8, body: &[u8]) -> Option<Message> {
    Some(match kind {
        b'R' => authentication(body)?,
        b'E' => Message::Error(report(body)),
        b'S' => {
            let mut texts = texts(body);
            Message::Parameter(texts.next()?, texts.next()?)
        }
        b'D' => Message::Row(row(body)?),
        b'Z' => Message::Ready,
        _ => Message::Other,
    })
}

fn authentication(body: &[u8]) -> Option<Message> {
    let (kind, rest) = body.split_first_chunk::<4>()?;
    let text = || String::from_utf8(rest.to_vec()).ok();
    Some(match u32::from_be_bytes(*kind) {
        0 => Message::Welcome,
        3 => Message::AskCleartext,
        5 => Message::AskMd5(rest.to_vec()),
        10 => Message::AskSasl(texts(rest).collect()),
        11 => Message::SaslContinue(text()?),
        12 => Message::SaslFinal(text()?),
        other => Message::AskOther(other),
    })
}

fn report(body: &[u8]) -> Report {
    let mut report = Report::default();
    for field in texts(body) {
        match field.split_at_checked(1) {
            Some(("C", code)) => report.code = code.into(),
            Some(("M", message)) => report.message = message.lines().next().unwrap_or_default().into(),
            _ => {}
        }
    }
    report
}

fn row(body: &[u8]) -> Option<Row> {
    let (count, mut rest) = body.split_first_chunk::<2>()?;
    let mut row = Vec::new();
    for _ in 0..u16::from_be_bytes(*count) {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            row.push(None);
            rest = after;
            continue;
        };
        let (value, after) = after.split_at_checked(length)?;
        row.push(Some(String::from_utf8_lossy(value).into_owned()));
        rest = after;
    }
    Some(row)
}

/// Texts that each end with a zero, up to an empty one.
fn texts(body: &[u8]) -> impl Iterator<Item = String> + '_ {
    body.split(|byte| *byte == 0)
        .take_while(|text| !text.is_empty())
        .map(|text| String::from_utf8_lossy(text).into_owned())
}

/// StartupMessage.
pub(crate) fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for (name, value) in parameters {
        for text in [name, value] {
            body.extend(text.as_bytes());
            body.push(0);
        }
    }
    body.push(0);
    prefixed(body)
}

/// Query.
pub(crate) fn query(sql: &str) -> Vec<u8> {
    typed(b'Q', [sql.as_bytes(), &[0]].concat())
}

/// PasswordMessage with a text that the host made.
pub(crate) fn password(text: &str) -> Vec<u8> {
    typed(b'p', [text.as_bytes(), &[0]].concat())
}

/// SASLInitialResponse.
pub(crate) fn sasl_initial(mechanism: &str, response: &str) -> Vec<u8> {
    let mut body = [mechanism.as_bytes(), &[0]].concat();
    body.extend(u32::try_from(response.len()).unwrap_or(u32::MAX).to_be_bytes());
    body.extend(response.as_bytes());
    typed(b'p', body)
}

/// SASLResponse.
pub(crate) fn sasl_response(response: &str) -> Vec<u8> {
    typed(b'p', response.as_bytes().to_vec())
}

/// Terminate.
pub(crate) fn terminate() -> Vec<u8> {
    typed(b'X', Vec::new())
}

fn typed(kind: u8, body: Vec<u8>) -> Vec<u8> {
    let mut message = vec![kind];
    message.extend(prefixed(body));
    message
}

/// The length counts itself.
fn prefixed(body: Vec<u8>) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], &body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_says_is_read() {
        assert_eq!(message(b'R', &[0, 0, 0, 0]), Some(Message::Welcome));
        assert_eq!(message(b'R', &[0, 0, 0, 5, 1, 2, 3, 4]), Some(Message::AskMd5(vec![1, 2, 3, 4])));
        assert_eq!(
            message(b'R', b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"),
            Some(Message::AskSasl(vec!["SCRAM-SHA-256-PLUS".into(), "SCRAM-SHA-256".into()]))
        );
        assert_eq!(
            message(b'E', b"SFATAL\0C28P01\0Mpassword authentication failed\0\0"),
            Some(Message::Error(Report {
                code: "28P01".into(),
                message: "password authentication failed".into()
            }))
        );
        assert_eq!(
            message(b'D', b"\0\x02\0\0\0\x01t\xff\xff\xff\xff"),
            Some(Message::Row(vec![Some("t".into()), None]))
        );
        assert_eq!(message(b'N', b"anything"), Some(Message::Other));
    }

    #[test]
    fn a_column_that_is_no_finite_number_is_none() {
        let row: Vec<Option<String>> =
            ["1.5", "NaN", "Infinity", "1e999", "-7", "t", "x"].map(|text| Some(text.to_owned())).to_vec();
        let columns = Columns(&row);
        assert_eq!(
            [0, 1, 2, 3, 4, 9].map(|index| columns.number(index)),
            [Some(1.5), None, None, None, Some(-7.0), None]
        );
        assert_eq!([4, 0].map(|index| columns.position(index)), [None, None]);
        assert_eq!([5, 6].map(|index| columns.flag(index)), [Some(true), None]);
    }

    #[test]
    fn what_is_cut_off_or_no_postgresql_is_none() {
        assert_eq!(message(b'D', b"\0\x02\0\0\0\x09t"), None);
        assert_eq!(message(b'R', b"\0\0"), None);
        assert_eq!(header(b"R\0\0\0\x08"), Some((b'R', 4)));
        assert_eq!(header(b"HTTP/"), None);
        assert_eq!(header(b"R\0\0\0\x03"), None);
        assert_eq!(header(b"R\0\0"), None);
    }

    #[test]
    fn what_we_say_carries_its_length() {
        assert_eq!(query("S"), b"Q\0\0\0\x06S\0");
        assert_eq!(startup(&[("user", "p")]), b"\0\0\0\x10\0\x03\0\0user\0p\0\0");
        assert_eq!(sasl_initial("M", "n,,"), b"p\0\0\0\x0dM\0\0\0\0\x03n,,");
    }
}
