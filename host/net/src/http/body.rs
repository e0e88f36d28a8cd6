//! A body as it was meant: its content coding (RFC 9110, section 8.4.1) undone, kept up to a bound and not a byte further. How it
//! travels is hyper's.

use std::borrow::Cow;
use std::io::{self, Write};

use brotli_decompressor::DecompressorWriter;
use flate2::write::MultiGzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use zstd::stream::raw::{DParameter, Decoder as Zstd, Operation};

/// Takes the bytes of a body as they come.
pub(crate) struct Body {
    coding: Coding,
    empty: bool,
}

enum Coding {
    Plain(Kept),
    Gzip(MultiGzDecoder<Kept>),
    /// Which of the two it is, its first two bytes say.
    SomeDeflate(Kept, Vec<u8>),
    Deflate(Steps<Decompress>),
    Br(Box<DecompressorWriter<Kept>>),
    Zstd(Steps<Zstd<'static>>),
}

impl Body {
    /// `coding` is the value of Content-Encoding. One that is not known, or more than one, leaves the bytes as they are.
    pub(crate) fn new(coding: &str, max: usize) -> io::Result<Self> {
        let kept = Kept { bytes: Vec::new(), max, more: false };
        let coding = match coding.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => Coding::Gzip(MultiGzDecoder::new(kept)),
            "deflate" => Coding::SomeDeflate(kept, Vec::new()),
            "br" => Coding::Br(Box::new(DecompressorWriter::new(kept, BUFFER))),
            "zstd" => {
                let mut decoder = Zstd::new()?;
                decoder.set_parameter(DParameter::WindowLogMax(ZSTD_WINDOW))?;
                Coding::Zstd(Steps { decoder, kept, ended: false })
            }
            _ => Coding::Plain(kept),
        };
        Ok(Self { coding, empty: true })
    }

    /// Whether a coding is undone: what comes out is not what travels.
    pub(crate) fn decodes(&self) -> bool {
        !matches!(self.coding, Coding::Plain(_))
    }

    /// Takes the next bytes; says whether the bound is passed and no more are wanted.
    pub(crate) fn push(&mut self, data: &[u8]) -> io::Result<bool> {
        self.empty &= data.is_empty();
        let data = self.told_apart(data);
        let written = match &mut self.coding {
            Coding::Plain(kept) => kept.write_all(&data),
            Coding::Gzip(decoder) => decoder.write_all(&data),
            Coding::SomeDeflate(..) => Ok(()),
            Coding::Deflate(steps) => steps.push(&data),
            Coding::Br(decoder) => decoder.write_all(&data),
            Coding::Zstd(steps) => steps.push(&data),
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
                Coding::SomeDeflate(..) => Err(io::ErrorKind::UnexpectedEof.into()),
                Coding::Deflate(steps) => steps.finish(),
                Coding::Br(decoder) => decoder.close(),
                Coding::Zstd(steps) => steps.finish(),
            };
            if !self.kept().more {
                finished?;
            }
        }
        let kept = self.kept();
        Ok((std::mem::take(&mut kept.bytes), kept.more))
    }

    /// The bytes to decode now. `deflate` is zlib's container by the RFC and the bare stream from many servers; browsers take
    /// both, and so do we. The container begins with a number that 31 divides (RFC 1950, section 2.2).
    fn told_apart<'a>(&mut self, data: &'a [u8]) -> Cow<'a, [u8]> {
        let Coding::SomeDeflate(kept, begun) = &mut self.coding else { return data.into() };
        begun.extend_from_slice(data);
        let &[first, second, ..] = begun.as_slice() else { return Cow::default() };
        let (kept, begun) = (std::mem::take(kept), std::mem::take(begun));
        let container = first & 0x0f == 8 && u16::from_be_bytes([first, second]).is_multiple_of(31);
        self.coding = Coding::Deflate(Steps { decoder: Decompress::new(container), kept, ended: false });
        begun.into()
    }

    fn kept(&mut self) -> &mut Kept {
        match &mut self.coding {
            Coding::Plain(kept) | Coding::SomeDeflate(kept, _) => kept,
            Coding::Gzip(decoder) => decoder.get_mut(),
            Coding::Deflate(steps) => &mut steps.kept,
            Coding::Br(decoder) => decoder.get_mut(),
            Coding::Zstd(steps) => &mut steps.kept,
        }
    }
}

/// A decoder that is driven here, because its library's own writer does not say when its input ends too early.
struct Steps<D> {
    decoder: D,
    kept: Kept,
    /// The coding has come to its end.
    ended: bool,
}

impl<D: Step> Steps<D> {
    fn push(&mut self, mut data: &[u8]) -> io::Result<()> {
        let mut decoded = [0; BUFFER];
        // What stands behind the end of a coding that ends belongs to nobody.
        while !(self.ended && D::ENDS) {
            let (read, written, ended) = self.decoder.step(data, &mut decoded)?;
            data = &data[read..];
            self.ended = ended;
            self.kept.write_all(&decoded[..written])?;
            // There may be more behind a full buffer, unless the coding says that there is not.
            let all = data.is_empty() && (ended || written < decoded.len());
            if all || (read, written) == (0, 0) {
                break;
            }
        }
        Ok(())
    }

    fn finish(&self) -> io::Result<()> {
        if self.ended { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

/// One step of a decoder: bytes read, bytes written, whether the coding is at its end.
trait Step {
    /// Whether nothing follows the end.
    const ENDS: bool;

    fn step(&mut self, data: &[u8], decoded: &mut [u8]) -> io::Result<(usize, usize, bool)>;
}

impl Step for Decompress {
    const ENDS: bool = true;

    fn step(&mut self, data: &[u8], decoded: &mut [u8]) -> io::Result<(usize, usize, bool)> {
        let before = (self.total_in(), self.total_out());
        let status = self.decompress(data, decoded, FlushDecompress::None)?;
        let grown = |now: u64, then: u64| usize::try_from(now - then).unwrap_or(usize::MAX);
        let (read, written) = (grown(self.total_in(), before.0), grown(self.total_out(), before.1));
        Ok((read, written, status == Status::StreamEnd))
    }
}

impl Step for Zstd<'_> {
    /// One frame may follow another (RFC 8878, section 3.1).
    const ENDS: bool = false;

    fn step(&mut self, data: &[u8], decoded: &mut [u8]) -> io::Result<(usize, usize, bool)> {
        let status = self.run_on_buffers(data, decoded)?;
        Ok((status.bytes_read, status.bytes_written, status.remaining == 0))
    }
}

/// Refuses what is beyond the bound, so that a small body cannot become a large one.
#[derive(Default)]
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
/// Decoded bytes on their way out of brotli.
const BUFFER: usize = 4096;

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

    fn bare(data: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    fn brotli(data: &[u8]) -> Vec<u8> {
        let mut encoder = brotli::CompressorWriter::new(Vec::new(), 4096, 5, 22);
        encoder.write_all(data).unwrap();
        encoder.into_inner()
    }

    fn decode(coding: &str, data: &[u8], max: usize, step: usize) -> io::Result<(Vec<u8>, bool)> {
        let mut body = Body::new(coding, max)?;
        for part in data.chunks(step) {
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
            ("unheard-of", text.clone()),
            ("br", brotli(&text)),
            ("gzip", gzip(&text)),
            ("X-GZIP", gzip(&text)),
            ("deflate", zlib(&text)),
            ("deflate", bare(&text)),
            ("zstd", zstd::encode_all(&text[..], 3).unwrap()),
        ];
        for (coding, data) in coded {
            for (max, truncated) in [(799, true), (800, false), (801, false), (0, true)] {
                for step in [1, 3, 10_000] {
                    let (body, more) = decode(coding, &data, max, step).unwrap();
                    assert_eq!(
                        (&body[..], more),
                        (&text[..max.min(800)], truncated),
                        "{coding} {max} {step}"
                    );
                }
            }
            assert_eq!(decode(coding, b"", 9, 1).unwrap(), (Vec::new(), false), "{coding}");
        }
    }

    #[test]
    fn a_coding_of_any_length_is_undone_and_what_follows_it_left_out() {
        for length in [1, 4095, 4096, 4097, 8192, 100_000] {
            let text: Vec<u8> =
                (0..length).map(|index: u32| b'a' + (index.wrapping_mul(index) % 17) as u8).collect();
            let coded = [
                ("gzip", gzip(&text)),
                ("deflate", zlib(&text)),
                ("deflate", bare(&text)),
                ("br", brotli(&text)),
                ("zstd", zstd::encode_all(&text[..], 3).unwrap()),
            ];
            for (coding, mut data) in coded {
                for step in [1, 4096, 1_000_000] {
                    let (body, more) = decode(coding, &data, 200_000, step).unwrap();
                    assert!(body == text && !more, "{coding} {length} {step}");
                }
                if coding == "deflate" {
                    data.extend(b"behind it");
                    assert_eq!(decode(coding, &data, 200_000, 7).unwrap().0.len(), text.len());
                }
            }
            let two =
                [zstd::encode_all(&text[..], 3).unwrap(), zstd::encode_all(&text[..], 3).unwrap()].concat();
            assert_eq!(decode("zstd", &two, 300_000, 7).unwrap().0.len(), 2 * text.len());
        }
    }

    #[test]
    fn a_bomb_becomes_no_larger_than_the_bound() {
        let zeros = vec![0; 20_000_000];
        for (coding, bomb) in [("gzip", gzip(&zeros)), ("deflate", bare(&zeros)), ("br", brotli(&zeros))] {
            let (body, more) = decode(coding, &bomb, 1000, 10_000).unwrap();
            assert_eq!((body.len(), more), (1000, true), "{coding}");
        }
    }

    #[test]
    fn a_coding_that_is_not_what_it_says_is_an_error() {
        for coding in ["gzip", "deflate", "br", "zstd"] {
            decode(coding, b"this is plain text, however long", 1000, 3).unwrap_err();
        }
        let text = b"some text that is long enough";
        let coded = [
            ("gzip", gzip(text)),
            ("deflate", zlib(text)),
            ("deflate", bare(text)),
            ("br", brotli(text)),
            ("zstd", zstd::encode_all(&text[..], 3).unwrap()),
        ];
        for (coding, whole) in coded {
            for missing in [1, 2, 9] {
                decode(coding, &whole[..whole.len() - missing], 1000, 3).unwrap_err();
            }
        }
        decode("deflate", b"x", 1000, 3).unwrap_err();
    }
}
