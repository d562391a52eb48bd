// Package treetest checks the rules of the whole repository that no linter checks. It consists of tests only.
package treetest
