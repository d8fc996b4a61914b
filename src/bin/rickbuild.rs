fn main() {
    let a: Vec<String> = std::env::args().collect();
    if a[1] == "__evaluate" { rick::compile::evaluate::fence::serve(a[2].as_ref(), &a[3]).unwrap(); return; }
    let o = rick::compile::evaluate::fence::evaluate(".".as_ref(), &a[1]);
    eprintln!("{}", rick::compile::report::render(&o.findings, &o.evaluation.sources, true));
    if a.len() > 2 { println!("{}", serde_json::to_string_pretty(&o.evaluation.hosts).unwrap()); }
}
