package layout

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadme holds what the README shows: a block marked `<!-- file: PATH -->` stands in that file to the letter, links lead
// somewhere, and the blocks that newcomers' scripts read are there.
func TestReadme(t *testing.T) {
	root := filepath.Join("..", "..")
	b, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	readme := string(b)
	quoted := regexp.MustCompile("(?s)<!-- file: (\\S+) -->\n```[a-z]*\n(.*?)\n```").FindAllStringSubmatch(readme, -1)
	if len(quoted) == 0 {
		t.Error("the README quotes no file")
	}
	for _, q := range quoted {
		file, err := os.ReadFile(filepath.Join(root, q[1]))
		if err != nil {
			t.Error(err)
		} else if !strings.Contains(string(file), q[2]) {
			t.Errorf("what the README shows of %s is not in it:\n%s", q[1], q[2])
		}
	}
	for _, link := range regexp.MustCompile(`\]\(([^)#:]+)\)`).FindAllStringSubmatch(readme, -1) {
		if _, err := os.Stat(filepath.Join(root, link[1])); err != nil {
			t.Errorf("a link of the README: %v", err)
		}
	}
	for _, mark := range []string{"run", "call", "answer", "test"} {
		if !strings.Contains(readme, "<!-- newcomer:"+mark+" -->\n```") {
			t.Errorf("the README has no block marked newcomer:%s", mark)
		}
	}
}
