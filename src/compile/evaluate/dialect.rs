//! What an environment may hold: `load` statements and calls, so that it can be read as data.
#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use starlark::codemap::Span;
use starlark::syntax::AstModule;
use starlark::syntax::ast::{AstExpr, AstStmt, ExprP, StmtP};

use super::super::finding::Finding;
use super::session::span_of;

/// One finding for each top-level statement that is neither `load` nor a call.
pub(super) fn violations(module: &AstModule) -> Vec<Finding> {
    let mut found = Vec::new();
    visit(module, module.statement(), &mut found);
    found
}

fn visit(module: &AstModule, statement: &AstStmt, found: &mut Vec<Finding>) {
    match &statement.node {
        StmtP::Statements(statements) => statements.iter().for_each(|inner| visit(module, inner, found)),
        StmtP::Load(_) | StmtP::Pass => {}
        StmtP::Expression(expression) if matches!(expression.node, ExprP::Call(..)) => {
            lambdas(module, expression, found);
        }
        // A documentation string at the top.
        StmtP::Expression(expression) if matches!(expression.node, ExprP::Literal(_)) => {}
        _ => found.push(refusal(module, statement.span)),
    }
}

fn lambdas(module: &AstModule, expression: &AstExpr, found: &mut Vec<Finding>) {
    if matches!(expression.node, ExprP::Lambda(_)) {
        found.push(refusal(module, expression.span));
    }
    expression.node.visit_expr(|inner| lambdas(module, inner, found));
}

fn refusal(module: &AstModule, span: Span) -> Finding {
    Finding::error("an environment holds only `load` statements and calls")
        .at(&span_of(&module.file_span(span)), "this is neither")
        .help("move what computes into a module, and keep the environment a plain description")
}
