//! Lays out text in boxes, as OCaml's `Format` does, whose line breaks OBuilder's log headings have.
//!
//! A box says how the breaks in it behave once its content does not fit on the line. Whether it fits is decided before all of it is
//! known: `Format` prints as soon as what waits is as long as the rest of the line, and then takes the box for too long. So
//! tokens wait in a queue here as well, until their size is known or does not matter any more.

use std::collections::VecDeque;

use bstr::BString;

/// The length of lines. The last column is never used.
const MARGIN: usize = 78;

/// No box starts, and no line is indented, further to the right.
const MAX_INDENT: usize = 68;

/// How breaks in a box behave.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// They are spaces.
    Horizontal,
    /// They end the line.
    Vertical,
    /// They end the line if the box does not fit on one.
    AllOrNone,
    /// Each ends the line if what follows it does not fit, or if that moves the text to the left.
    Fill,
}

enum Token {
    Text(BString),
    /// So many spaces, or the end of the line.
    Break(usize),
    Open(Layout, usize),
    Close,
    Newline,
}

/// A token that was not laid out yet.
struct Waiting {
    token: Token,
    /// How much it adds to the line if no break ends it.
    length: usize,
    /// For a break, up to the next one in its box; for the start of a box, up to its end. None while that is not known.
    size: Option<usize>,
}

/// A break or a box whose size is not known yet.
struct Unsized {
    /// Its place among all tokens ever added.
    index: usize,
    /// The length of all that came before it.
    start: usize,
    is_break: bool,
}

/// A box which lines are being laid out in.
struct Frame {
    /// None if all of it fits on the line.
    layout: Option<Layout>,
    indent: usize,
}

/// Takes text, breaks and boxes, and gives lines.
#[derive(Default)]
pub(crate) struct Boxes {
    out: BString,
    column: usize,
    /// Where the current line's text started.
    line_indent: usize,
    frames: Vec<Frame>,
    queue: VecDeque<Waiting>,
    /// The number of tokens that have left the queue.
    done: usize,
    /// The length of all tokens that were added, and of those that have left the queue.
    added: usize,
    left: usize,
    scan: Vec<Unsized>,
}

impl Boxes {
    pub(crate) fn text(&mut self, text: impl Into<BString>) -> &mut Self {
        let text = text.into();
        let length = text.len();
        self.add(Token::Text(text), length, Some(length));
        self.advance();
        self
    }

    /// A space, or the end of the line.
    pub(crate) fn space(&mut self) -> &mut Self {
        self.break_of(1)
    }

    /// Nothing, or the end of the line.
    pub(crate) fn cut(&mut self) -> &mut Self {
        self.break_of(0)
    }

    /// The end of the line, whatever the box.
    pub(crate) fn newline(&mut self) -> &mut Self {
        self.add(Token::Newline, 0, Some(0));
        self.advance();
        self
    }

    /// Starts a box, whose lines after the first are indented by so much more than where it starts.
    pub(crate) fn open(&mut self, layout: Layout, indent: usize) -> &mut Self {
        self.add_unsized(Token::Open(layout, indent), 0);
        self
    }

    /// Ends the box that was started last.
    pub(crate) fn close(&mut self) -> &mut Self {
        self.add(Token::Close, 0, Some(0));
        self.settle(true);
        self.settle(false);
        self
    }

    /// The lines. All boxes must have been closed.
    pub(crate) fn finish(mut self) -> BString {
        while let Some(waiting) = self.take() {
            self.lay_out(waiting);
        }
        self.out
    }

    fn break_of(&mut self, spaces: usize) -> &mut Self {
        let start = self.added;
        let index = self.done + self.queue.len();
        self.add(Token::Break(spaces), spaces, None);
        // The break before this one ends where this one does.
        self.settle(true);
        self.scan.push(Unsized {
            index,
            start,
            is_break: true,
        });
        self
    }

    fn add_unsized(&mut self, token: Token, length: usize) {
        let index = self.done + self.queue.len();
        let start = self.added;
        self.add(token, length, None);
        self.scan.push(Unsized {
            index,
            start,
            is_break: false,
        });
    }

    fn add(&mut self, token: Token, length: usize, size: Option<usize>) {
        self.added += length;
        self.queue.push_back(Waiting {
            token,
            length,
            size,
        });
    }

    /// Gives the last token without a size its size, if it is a break, or is none, as asked for.
    fn settle(&mut self, is_break: bool) {
        let Some(last) = self.scan.pop_if(|last| last.is_break == is_break) else {
            return;
        };
        let waiting = last.index.checked_sub(self.done);
        if let Some(waiting) = waiting.and_then(|index| self.queue.get_mut(index)) {
            waiting.size = Some(self.added - last.start);
        }
    }

    /// Lays out what can be decided.
    fn advance(&mut self) {
        while let Some(first) = self.queue.front() {
            let pending = self.added - self.left;
            if first.size.is_none() && pending < self.room() {
                return;
            }
            if let Some(first) = self.take() {
                self.lay_out(first);
            }
        }
    }

    fn take(&mut self) -> Option<Waiting> {
        let first = self.queue.pop_front()?;
        self.done += 1;
        self.left += first.length;
        Some(first)
    }

    /// What is left of the line.
    const fn room(&self) -> usize {
        MARGIN.saturating_sub(self.column)
    }

    fn lay_out(&mut self, waiting: Waiting) {
        let fits = waiting.size.is_some_and(|size| size <= self.room());
        match waiting.token {
            Token::Text(text) => {
                self.column += text.len();
                self.out.extend_from_slice(&text);
            }
            Token::Newline => self.end_line(),
            Token::Break(spaces) => {
                if self.breaks(fits) {
                    self.end_line();
                } else {
                    self.spaces(spaces);
                }
            }
            Token::Open(layout, indent) => {
                if self.column > MAX_INDENT {
                    self.start_over();
                }
                let fits = waiting.size.is_some_and(|size| size <= self.room());
                self.frames.push(Frame {
                    layout: (!fits || layout == Layout::Vertical).then_some(layout),
                    indent: self.column + indent,
                });
            }
            Token::Close => {
                self.frames.pop();
            }
        }
    }

    /// Whether a break ends the line.
    fn breaks(&self, fits: bool) -> bool {
        let Some(Frame {
            layout: Some(layout),
            indent,
        }) = self.frames.last()
        else {
            return false;
        };
        match layout {
            Layout::Horizontal => false,
            Layout::Vertical | Layout::AllOrNone => true,
            Layout::Fill => {
                let at_start = self.column == self.line_indent;
                !at_start && (!fits || self.line_indent > *indent)
            }
        }
    }

    /// Ends the line before a box that would start too far to the right, unless the box around it has no line ends.
    fn start_over(&mut self) {
        if let Some(Frame {
            layout: Some(layout),
            indent,
        }) = self.frames.last()
            && *layout != Layout::Horizontal
            && *indent < self.column
        {
            self.end_line();
        }
    }

    fn end_line(&mut self) {
        let indent = self.frames.last().map_or(0, |frame| frame.indent);
        self.out.push(b'\n');
        self.column = 0;
        self.spaces(indent.min(MAX_INDENT));
        self.line_indent = self.column;
    }

    fn spaces(&mut self, count: usize) {
        self.column += count;
        self.out.extend(std::iter::repeat_n(b' ', count));
    }
}
