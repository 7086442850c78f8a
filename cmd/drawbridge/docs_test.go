package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"drawbridge/agent/config"
)

var documents = []string{"../../README.md", "../../deploy/README.md", "../../deploy/TRUST.md"}

// TestDocumentedCommands parses every command line that the documents show, up
// to the point where it would run.
func TestDocumentedCommands(t *testing.T) {
	shown := regexp.MustCompile(`(?m)^    (?:\S+\$ +)?(?:bin/)?drawbridge (.*)$`)
	for _, name := range documents {
		found := shown.FindAllStringSubmatch(read(t, name), -1)
		if len(found) == 0 {
			t.Errorf("%s shows no command", name)
		}
		for _, m := range found {
			line, _, _ := strings.Cut(m[1], "#")
			line, _, _ = strings.Cut(line, ">")
			cmd, rest, err := newRoot().Find(strings.Fields(line))
			if err != nil {
				t.Errorf("%s: drawbridge %s: %v", name, line, err)
				continue
			}
			if !cmd.Runnable() {
				t.Errorf("%s: drawbridge %s: does nothing", name, line)
			}
			if err := cmd.ParseFlags(rest); err != nil {
				t.Errorf("%s: drawbridge %s: %v", name, line, err)
				continue
			}
			if err := cmd.ValidateRequiredFlags(); err != nil {
				t.Errorf("%s: drawbridge %s: %v", name, line, err)
			}
			if err := cmd.ValidateArgs(cmd.Flags().Args()); err != nil {
				t.Errorf("%s: drawbridge %s: %v", name, line, err)
			}
		}
	}
}

// TestDocumentedConfiguration reads every configuration that the documents show.
func TestDocumentedConfiguration(t *testing.T) {
	block := regexp.MustCompile("(?s)```yaml\n(.*?)```")
	n := 0
	for _, name := range documents {
		for _, m := range block.FindAllStringSubmatch(read(t, name), -1) {
			n++
			if _, err := config.Parse(name, strings.NewReader(m[1])); err != nil {
				t.Errorf("%v\n%s", err, m[1])
			}
		}
	}
	if n == 0 {
		t.Error("no configuration found")
	}
}

// TestDocumentedMakeTargets: what the README tells to make can be made.
func TestDocumentedMakeTargets(t *testing.T) {
	makefile := read(t, "../../Makefile")
	for _, m := range regexp.MustCompile("(?m)(?:^    |`)make ([a-z-]+)").FindAllStringSubmatch(read(t, "../../README.md"), -1) {
		if !strings.Contains(makefile, "\n"+m[1]+":") {
			t.Errorf("README names make %s, the Makefile does not", m[1])
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
