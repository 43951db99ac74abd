//! The lines beside `log --graph`, drawn as Git draws them.
//!
//! Columns are the commits that the drawing still waits for. A commit takes the column that waits for it; its parents take
//! its place, one more column for each further parent (`|\`). Columns that wait for the same commit, and those right of one
//! that ended, then move left, one place a line (`|/`, ` /`), crossing others where they must (`|/|`).

use treebox::object::CommitId;

/// A drawing that is made from the newest commit down.
#[derive(Default)]
pub(super) struct Graph {
    columns: Vec<CommitId>,
}

/// The lines of one commit.
pub(super) struct Lines {
    /// Beside the first line of its text.
    pub(super) star: String,
    /// Beside further lines of its text.
    pub(super) beside: String,
    /// Between it and the next commit.
    pub(super) below: Vec<String>,
}

impl Graph {
    /// Draws a commit. Parents that will not be drawn must not be given.
    pub(super) fn draw(&mut self, commit: CommitId, parents: &[CommitId]) -> Lines {
        let at = self.columns.iter().position(|waiting| *waiting == commit).unwrap_or_else(|| {
            self.columns.push(commit);
            self.columns.len() - 1
        });
        let star = self.row(|column| if column == at { '*' } else { '|' });
        let mut below = Vec::new();
        let Some((first, more)) = parents.split_first() else {
            let beside = self.row(|column| if column == at { ' ' } else { '|' });
            below.extend(self.settle(Some(at)));
            return Lines { star, beside, below };
        };
        let beside = self.row(|_| '|');
        self.columns[at] = *first;
        for parent in more.iter().rev() {
            let right = self.columns.len() - at - 1;
            below.push(format!("{}|\\{}", "| ".repeat(at), " \\".repeat(right)));
            self.columns.insert(at + 1, *parent);
        }
        below.extend(self.settle(None));
        Lines { star, beside, below }
    }

    fn row(&self, mark: impl Fn(usize) -> char) -> String {
        let mut line = String::new();
        for column in 0..self.columns.len() {
            line.push(mark(column));
            line.push(' ');
        }
        line.trim_end().to_owned()
    }

    /// Takes the ended column away and joins the columns that wait for the same commit; gives the lines that show it.
    fn settle(&mut self, ended: Option<usize>) -> Vec<String> {
        let mut kept: Vec<CommitId> = Vec::new();
        // Where on the screen an edge is, and the column it goes to. Columns stand on even places.
        let mut edges: Vec<Option<usize>> = Vec::new();
        for (column, waiting) in self.columns.iter().enumerate() {
            let target = (ended != Some(column)).then(|| {
                kept.iter().position(|have| have == waiting).unwrap_or_else(|| {
                    kept.push(*waiting);
                    kept.len() - 1
                })
            });
            edges.extend([target, None]);
        }
        self.columns = kept;
        let mut lines = Vec::new();
        while edges.iter().enumerate().any(|(place, edge)| edge.is_some_and(|target| target != place / 2)) {
            edges = moved_left(&edges);
            let draw = |(place, edge): (usize, &Option<usize>)| match edge {
                None => ' ',
                Some(target) if target * 2 == place => '|',
                Some(_) => '/',
            };
            lines.push(edges.iter().enumerate().map(draw).collect::<String>().trim_end().to_owned());
        }
        lines
    }
}

/// Every edge that is not at its column one place to the left, or two where it crosses another.
fn moved_left(edges: &[Option<usize>]) -> Vec<Option<usize>> {
    let mut moved: Vec<Option<usize>> = vec![None; edges.len()];
    for (place, target) in edges.iter().enumerate().filter_map(|(place, edge)| Some((place, (*edge)?))) {
        if target * 2 == place {
            moved[place] = Some(target);
        } else if moved[place - 1].is_none() {
            moved[place - 1] = Some(target);
        } else if moved[place - 1] != Some(target) && place >= 2 {
            moved[place - 2] = Some(target);
        }
        // Else there is a line to the same commit already, and this edge ends in it.
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: char) -> CommitId {
        CommitId::from_bytes([name as u8; 20])
    }

    /// Draws commits given as `c ab`: the commit and its parents.
    fn drawn(commits: &[&str]) -> String {
        let mut graph = Graph::default();
        let mut text = String::new();
        for commit in commits {
            let mut names = commit.chars().filter(|c| !c.is_whitespace());
            let name = names.next().unwrap();
            let parents: Vec<_> = names.map(id).collect();
            let lines = graph.draw(id(name), &parents);
            text += &format!("{} {name}\n", lines.star);
            for line in lines.below {
                text += &format!("{line}\n");
            }
        }
        text
    }

    #[test]
    fn a_chain_is_a_column_of_stars() {
        assert_eq!(drawn(&["c b", "b a", "a"]), "* c\n* b\n* a\n");
    }

    #[test]
    fn two_branches_join_at_their_fork() {
        assert_eq!(drawn(&["c a", "b a", "a"]), "* c\n| * b\n|/\n* a\n");
    }

    #[test]
    fn three_branches_join_at_their_fork() {
        assert_eq!(drawn(&["d a", "c a", "b a", "a"]), "* d\n| * c\n|/\n| * b\n|/\n* a\n");
    }

    #[test]
    fn a_merge_opens_a_column() {
        assert_eq!(drawn(&["d cb", "c a", "b a", "a"]), "* d\n|\\\n* | c\n| * b\n|/\n* a\n");
    }

    #[test]
    fn an_unrelated_root_ends_its_column() {
        assert_eq!(drawn(&["d b", "c a", "b", "a"]), "* d\n| * c\n* | b\n /\n* a\n");
    }

    #[test]
    fn edges_cross_other_columns() {
        // e and d wait for b and c; the third column's parent is b as well.
        assert_eq!(
            drawn(&["f b", "e c", "d b", "c a", "b a", "a"]),
            "* f\n| * e\n| | * d\n| |/\n|/|\n| * c\n* | b\n|/\n* a\n"
        );
    }

    #[test]
    fn an_octopus_opens_a_column_for_each_parent() {
        let expected = "* e\n|\\\n|\\ \\\n| | * d\n| * | c\n| |/\n* | b\n|/\n* a\n";
        assert_eq!(drawn(&["e bcd", "d a", "c a", "b a", "a"]), expected);
    }
}
