//go:build !linux

package lab

// memoryDir is a folder in memory for clusters that are not to last. Empty
// means that the system has none.
func memoryDir() string { return "" }
