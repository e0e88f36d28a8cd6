//! A body as it was meant: its content coding (RFC 9110, section 8.4.1) undone, kept up to a bound and not a byte further. How it
//! travels is hyper's.

use std::io::{self, Write};

use flate2::write::{MultiGzDecoder, ZlibDecoder};

/// Takes the bytes of a body as they come.
pub(crate) struct Body {
    coding: Coding,
    empty: bool,
}

enum Coding {
    Plain(Kept),
    Gzip(MultiGzDecoder<Kept>),
    Deflate(ZlibDecoder<Kept>),
    Zstd(Box<zstd::stream::write::Decoder<'static, Kept>>),
}

impl Body {
    /// `coding` is the value of Content-Encoding. One that is not known, or more than one, leaves the bytes as they are.
    pub(crate) fn new(coding: &str, max: usize) -> io::Result<Self> {
        let kept = Kept { bytes: Vec::new(), max, more: false };
        let coding = match coding.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => Coding::Gzip(MultiGzDecoder::new(kept)),
            "deflate" => Coding::Deflate(ZlibDecoder::new(kept)),
            "zstd" => {
                let mut decoder = zstd::stream::write::Decoder::new(kept)?;
                decoder.window_log_max(ZSTD_WINDOW)?;
                Coding::Zstd(Box::new(decoder))
            }
            _ => Coding::Plain(kept),
        };
        Ok(Self { coding, empty: true })
    }

    /// Takes the next bytes; says whether the bound is passed and no more are wanted.
    pub(crate) fn push(&mut self, data: &[u8]) -> io::Result<bool> {
        self.empty &= data.is_empty();
        let written = match &mut self.coding {
            Coding::Plain(kept) => kept.write_all(data),
            Coding::Gzip(decoder) => decoder.write_all(data),
            Coding::Deflate(decoder) => decoder.write_all(data),
            Coding::Zstd(decoder) => decoder.write_all(data),
        };
        match self.kept().more {
            true => Ok(true),
            false => written.map(|()| false),
        }
    }

    /// The kept bytes, and whether there were more. An error when the coding ends in its middle.
    pub(crate) fn finish(mut self) -> io::Result<(Vec<u8>, bool)> {
        if !self.empty && !self.kept().more {
            let finished = match &mut self.coding {
                Coding::Plain(_) => Ok(()),
                Coding::Gzip(decoder) => decoder.try_finish(),
                Coding::Deflate(decoder) => decoder.try_finish(),
                Coding::Zstd(decoder) => decoder.flush(),
            };
            if !self.kept().more {
                finished?;
            }
        }
        let kept = self.kept();
        Ok((std::mem::take(&mut kept.bytes), kept.more))
    }

    fn kept(&mut self) -> &mut Kept {
        match &mut self.coding {
            Coding::Plain(kept) => kept,
            Coding::Gzip(decoder) => decoder.get_mut(),
            Coding::Deflate(decoder) => decoder.get_mut(),
            Coding::Zstd(decoder) => decoder.get_mut(),
        }
    }
}

/// Refuses what is beyond the bound, so that a small body cannot become a large one.
struct Kept {
    bytes: Vec<u8>,
    max: usize,
    more: bool,
}

impl Write for Kept {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let room = self.max.saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&data[..data.len().min(room)]);
        match data.len() > room {
            true => {
                self.more = true;
                Err(io::Error::other("longer than what is kept"))
            }
            false => Ok(data.len()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// RFC 9659: 8 MiB, what every decoder of the web must have.
const ZSTD_WINDOW: u32 = 23;

#[cfg(test)]
mod tests {
    use super::*;

    fn gzip(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn zlib(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    /// The bytes come in threes.
    fn decode(coding: &str, data: &[u8], max: usize) -> io::Result<(Vec<u8>, bool)> {
        let mut body = Body::new(coding, max)?;
        for part in data.chunks(3) {
            if body.push(part)? {
                break;
            }
        }
        body.finish()
    }

    #[test]
    fn a_coding_is_undone_and_bounded_after_that() {
        let text = b"Welcome ".repeat(100);
        let coded = [
            ("", text.clone()),
            ("br", text.clone()),
            ("gzip", gzip(&text)),
            ("X-GZIP", gzip(&text)),
            ("deflate", zlib(&text)),
            ("zstd", zstd::encode_all(&text[..], 3).unwrap()),
        ];
        for (coding, data) in coded {
            for (max, truncated) in [(799, true), (800, false), (801, false), (0, true)] {
                let (body, more) = decode(coding, &data, max).unwrap();
                assert_eq!((&body[..], more), (&text[..max.min(800)], truncated), "{coding} {max}");
            }
            assert_eq!(decode(coding, b"", 9).unwrap(), (Vec::new(), false), "{coding}");
        }
    }

    #[test]
    fn a_bomb_becomes_no_larger_than_the_bound() {
        let bomb = gzip(&vec![0; 50_000_000]);
        let (body, more) = decode("gzip", &bomb, 1000).unwrap();
        assert_eq!((body.len(), more), (1000, true));
    }

    #[test]
    fn a_coding_that_is_not_what_it_says_is_an_error() {
        for coding in ["gzip", "deflate", "zstd"] {
            decode(coding, b"this is plain text, however long", 1000).unwrap_err();
        }
        let whole = gzip(b"some text that is long enough");
        decode("gzip", &whole[..whole.len() - 9], 1000).unwrap_err();
    }
}
