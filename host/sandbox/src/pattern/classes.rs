//! What the classes of a pattern cost to compile, estimated from its text: the engine bounds what comes of them, and not the way there.

use regex_syntax::ast::{self, Ast, ClassSetBinaryOp, ClassSetItem, Flag, Flags};

/// What classes may weigh: some milliseconds of work before there is an automaton to be measured.
const MOST: u64 = 4 << 20;

/// Whether a pattern has more of them than may be compiled; one that cannot be read has none.
pub(super) fn are_too_many(text: &str) -> bool {
    Classes::of(text).weight() > MOST
}

/// What the classes of a pattern cost before it is an automaton, in code points that are looked at one by one: the table of a property, and
/// every code point of a class whose case does not count. The engine's own bound counts only what comes of them.
#[derive(Default)]
struct Classes {
    /// Case does not count somewhere.
    folds: bool,
    /// `\p{…}`.
    properties: u64,
    /// `\w` and its kin.
    shorthands: u64,
    /// Code points in ranges that are written out.
    ranges: u64,
    /// Classes within classes, and operations on them: each is folded anew.
    nested: u64,
}

impl Classes {
    /// Those of a pattern; none of one that cannot be read.
    fn of(text: &str) -> Self {
        let parsed = ast::parse::Parser::new().parse(text);
        let counted = parsed.ok().and_then(|ast| ast::visit(&ast, Classes::default()).ok());
        counted.unwrap_or_default()
    }

    fn weight(&self) -> u64 {
        let tables = self.properties * PROPERTY + self.shorthands * SHORTHAND;
        match self.folds {
            true => tables + self.ranges + (self.properties + self.nested) * ALL + self.shorthands * LETTERS,
            false => tables,
        }
    }

    fn flags(&mut self, flags: &Flags) {
        self.folds |= flags.flag_state(Flag::CaseInsensitive) == Some(true);
    }
}

impl ast::Visitor for Classes {
    type Output = Self;
    type Err = std::convert::Infallible;

    fn finish(self) -> Result<Self, Self::Err> {
        Ok(self)
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), Self::Err> {
        match ast {
            Ast::Flags(set) => self.flags(&set.flags),
            Ast::Group(group) => group.flags().into_iter().for_each(|flags| self.flags(flags)),
            Ast::ClassUnicode(_) => self.properties += 1,
            Ast::ClassPerl(_) => self.shorthands += 1,
            _ => {}
        }
        Ok(())
    }

    fn visit_class_set_item_pre(&mut self, item: &ClassSetItem) -> Result<(), Self::Err> {
        match item {
            ClassSetItem::Range(range) => {
                self.ranges += u64::from(u32::from(range.end.c).saturating_sub(range.start.c.into()));
            }
            ClassSetItem::Unicode(_) => self.properties += 1,
            ClassSetItem::Perl(class) if class.negated => self.properties += 1,
            ClassSetItem::Perl(_) => self.shorthands += 1,
            ClassSetItem::Bracketed(_) => self.nested += 1,
            _ => {}
        }
        Ok(())
    }

    fn visit_class_set_binary_op_pre(&mut self, _: &ClassSetBinaryOp) -> Result<(), Self::Err> {
        self.nested += 1;
        Ok(())
    }
}

/// In code points: all that there are, those that `\w` takes, and what it costs to read the table of a property or of a shorthand.
const ALL: u64 = 0x11_0000;
const LETTERS: u64 = 140_000;
const PROPERTY: u64 = 20_000;
const SHORTHAND: u64 = 8_000;

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use crate::pattern::{Pattern, TEXT};

    #[test]
    fn a_pattern_whose_classes_take_minutes_is_refused_at_once() {
        let filled = |front: &str, unit: &str| format!("{front}{}", unit.repeat((TEXT - 8) / unit.len()));
        let begun = Instant::now();
        for pattern in [
            filled("(?i)", r"\p{Any}"),
            filled("(?i)", r"\pL"),
            filled("(?i:", r"\p{Any}") + ")",
            filled("", r"\p{Any}"),
            filled("", r"\W"),
            filled("(?i)[", r"\w") + "]",
            filled("(?i)", r"[\x{80}-\x{10FFFE}]"),
            filled("(?i)", "[\u{80}-\u{10fffe}]"),
            format!("(?i)[[^a]{}]", "&&[^a]".repeat(100)),
            format!("(?i){}a{}", "[a".repeat(100), r"\p{Any}]".repeat(100)),
        ] {
            let error = Pattern::compile(&pattern).map(drop).unwrap_err();
            assert!(error.contains("too many Unicode classes"), "{pattern:.40}: {error}");
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        for pattern in [
            r"(?i)^\p{L}+\s\p{Lu}\p{Greek}$",
            r"(?i)[^a][^b][^\w]",
            r"(?i)[\x{80}-\x{10FFFF}]+",
            &r"\w+\s*=\s*\d+;".repeat(20),
            &r"\p{L}".repeat(10),
        ] {
            assert!(Pattern::compile(pattern).is_ok(), "{pattern}");
        }
    }
}
