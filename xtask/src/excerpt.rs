//! What of a command's output tells why it failed: said again at the end, where it is not lost among the output of the
//! steps that came after it.

use std::collections::VecDeque;

/// Lines of a failing test, or of the end of the output, that are said again.
const LINES: usize = 60;

/// Longer lines are cut: what matters of them is at their beginning.
const LINE_LENGTH: usize = 400;

/// Reads an output line by line and keeps what tells of failures.
#[derive(Default)]
pub(crate) struct Excerpt {
    /// The last lines, whatever they say.
    end: VecDeque<String>,
    /// What the test runners say of the tests that failed: one list for each time that they begin to.
    failures: Vec<Vec<String>>,
    in_failures: bool,
}

impl Excerpt {
    /// Takes the next line.
    pub(crate) fn take(&mut self, line: &str) {
        let line: String = line.trim_end().chars().take(LINE_LENGTH).collect();
        // Cargo's runner writes `failures:` before the output of the tests that failed, and again before their names;
        // Node's writes its heading before the end of its output.
        let begins = line == "failures:" || line == "✖ failing tests:";
        if begins && !self.in_failures {
            self.failures.push(Vec::new());
            self.in_failures = true;
        }
        if line.starts_with("test result:") {
            self.in_failures = false;
        }
        if let Some(failures) = self.failures.last_mut().filter(|_| self.in_failures) {
            failures.push(line.clone());
        }
        self.end.push_back(line);
        if self.end.len() > LINES {
            self.end.pop_front();
        }
    }

    /// What is said again.
    pub(crate) fn lines(&self) -> Vec<String> {
        if self.failures.is_empty() {
            return self.end.iter().cloned().collect();
        }
        self.failures.iter().flat_map(|failures| without_middle(failures)).collect()
    }
}

/// The beginning has the first failure's cause, the end the names of all that failed.
fn without_middle(lines: &[String]) -> Vec<String> {
    let Some(left_out) = lines.len().checked_sub(LINES).filter(|left_out| *left_out > 0) else {
        return lines.to_vec();
    };
    let (first, rest) = lines.split_at(LINES / 2);
    let mut kept = first.to_vec();
    kept.push(format!("({left_out} lines left out)"));
    kept.extend_from_slice(&rest[left_out..]);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn excerpt(output: &str) -> Vec<String> {
        let mut excerpt = Excerpt::default();
        output.lines().for_each(|line| excerpt.take(line));
        excerpt.lines()
    }

    #[test]
    fn of_tests_what_the_failing_ones_said_is_kept() {
        let output = "test a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\nleft: 1\n\nfailures:\n    b\n\n\
                      test result: FAILED. 1 passed; 1 failed\ntest c ... ok\ntest result: ok. 1 passed\n";
        assert_eq!(
            excerpt(output),
            ["failures:", "", "---- b stdout ----", "left: 1", "", "failures:", "    b", ""]
        );
        assert_eq!(excerpt("✔ a\n✖ failing tests:\n✖ b\n  AssertionError")[1..], ["✖ b", "  AssertionError"]);
    }

    #[test]
    fn of_other_output_the_end_is_kept() {
        let output: String = (0..1_000).map(|number| format!("line {number}\n")).collect();
        let kept = excerpt(&output);
        assert_eq!((kept.len(), kept[LINES - 1].as_str()), (LINES, "line 999"));
    }

    #[test]
    fn a_long_report_of_failures_loses_its_middle() {
        let lines: String = (0..500).map(|number| format!("{number}\n")).collect();
        let kept = excerpt(&format!("failures:\n{lines}"));
        assert_eq!((kept[0].as_str(), kept[LINES / 2].as_str()), ("failures:", "(441 lines left out)"));
        assert_eq!((kept.len(), kept.last().map(String::as_str)), (LINES + 1, Some("499")));
    }
}
