"""Two treebanks in, a report out: any parser's output can be scored."""
