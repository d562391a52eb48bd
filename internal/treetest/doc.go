// Package treetest holds the rules that the whole repository keeps and no linter checks; it is all tests.
package treetest
