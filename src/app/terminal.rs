//! What may be written to a terminal.

/// The text without what a terminal would obey: control characters but for line ends and tabs, and the marks that turn
/// the direction of writing.
pub(super) fn printable(text: &str) -> String {
    let is_shown = |c: &char| {
        let turns = matches!(*c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        matches!(*c, '\n' | '\t') || !c.is_control() && !turns
    };
    text.chars().filter(is_shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    // rule: T-11d
    #[test]
    fn what_a_terminal_would_obey_is_not_shown() {
        let shown = printable("a\u{1b}[2Jb\r\n\tc\u{9b}d\u{202e}e\u{7}");
        assert_eq!(shown, "a[2Jb\n\tcde");
    }
}
