"""Two tiny treebanks written for this project, for the demonstration and the tests."""
