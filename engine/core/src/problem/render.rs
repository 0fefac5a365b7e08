//! Problems as people and programs read them.

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet};
use serde_json::json;

use super::{File, Problem, Severity};

/// How problems are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// With the source, for people; in colours or without.
    #[default]
    Plain,
    /// With colours.
    Coloured,
    /// One JSON object per problem and line.
    Json,
    /// Annotations of GitHub Actions.
    Github,
}

/// Writes problems, each ended by a line break, in the order of files and places.
pub fn render(problems: &[Problem], files: &[File], format: Format) -> String {
    let mut problems: Vec<_> = problems.iter().collect();
    problems.sort_by_key(|problem| (&problem.file, problem.span.start, problem.span.end, problem.code));
    let none = File::default();
    let write = |problem: &&Problem| {
        let file = files.iter().find(|file| file.path == problem.file).unwrap_or(&none);
        match format {
            Format::Plain => people(problem, file, &Renderer::plain()),
            Format::Coloured => people(problem, file, &Renderer::styled()),
            Format::Json => json(problem, file),
            Format::Github => github(problem, file),
        }
    };
    problems.iter().map(write).collect()
}

fn people(problem: &Problem, file: &File, renderer: &Renderer) -> String {
    let level = match problem.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let code = problem.code.to_string();
    let title = level.primary_title(&problem.message).id(&code);
    let span = problem.span.start.min(file.text.len())..problem.span.end.min(file.text.len());
    // A caret under the whole of a long value says less than one under its first line.
    let first_line = file.text[span.clone()].find('\n').map_or(span.end, |newline| span.start + newline);
    let annotation = AnnotationKind::Primary.span(span.start..first_line);
    let snippet = Snippet::source(file.text.as_str()).path(&problem.file).annotation(annotation);
    let mut group = if file.text.is_empty() {
        title.element(annotate_snippets::Origin::path(&problem.file))
    } else {
        title.element(snippet)
    };
    if let Some(help) = &problem.help {
        group = group.element(Level::HELP.message(help));
    }
    let renderer = renderer.clone().decor_style(DecorStyle::Ascii);
    format!("{}\n\n", renderer.render(&[group]))
}

fn json(problem: &Problem, file: &File) -> String {
    let (line, column) = file.line_column(problem.span.start);
    let (end_line, end_column) = file.line_column(problem.span.end);
    let object = json!({
        "code": problem.code.to_string(),
        "severity": problem.severity,
        "file": problem.file,
        "line": line,
        "column": column,
        "endLine": end_line,
        "endColumn": end_column,
        "message": problem.message,
        "help": problem.help,
    });
    format!("{object}\n")
}

fn github(problem: &Problem, file: &File) -> String {
    let level = match problem.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let (line, column) = file.line_column(problem.span.start);
    let (end_line, end_column) = file.line_column(problem.span.end);
    let help = problem.help.as_ref().map(|help| format!("\nhelp: {help}")).unwrap_or_default();
    let escape = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| escape(text).replace(':', "%3A").replace(',', "%2C");
    format!(
        "::{level} file={},line={line},endLine={end_line},col={column},endColumn={end_column},title={}::{}\n",
        property(&problem.file),
        problem.code,
        escape(&format!("{}{help}", problem.message)),
    )
}
