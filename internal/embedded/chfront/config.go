package chfront

import (
	"embed"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

//go:embed config/config.xml config/users.xml
var configFiles embed.FS

var configTemplates = template.Must(template.ParseFS(configFiles, "config/*.xml"))

// baseline are the settings that every session starts with and returns to, where they differ from the engine's
// own defaults. An INSERT is answered when its rows are in the table, and JSON columns travel as text.
var baseline = []struct{ Name, Value string }{
	{"async_insert", "0"},
	{"output_format_native_write_json_as_string", "1"},
}

// writeConfig puts the engine's configuration below dataDir and returns the arguments for a connection. Without
// a file of its own the engine would take config.xml of the working directory, and a user who may read files.
func writeConfig(dataDir string) (connectArgs []string, err error) {
	if dataDir, err = filepath.Abs(dataDir); err != nil {
		return nil, err
	}
	configDir := filepath.Join(dataDir, "config")
	if err := os.MkdirAll(configDir, 0o700); err != nil {
		return nil, fmt.Errorf("make the engine's configuration folder: %w", err)
	}
	values := struct {
		UsersFile, DisksDir string
		Baseline            any
	}{escapeXML(filepath.Join(configDir, "users.xml")), escapeXML(filepath.Join(dataDir, "disks")) + "/", baseline}
	for _, name := range []string{"users.xml", "config.xml"} {
		var text strings.Builder
		if err := configTemplates.ExecuteTemplate(&text, name, values); err != nil {
			return nil, err
		}
		if err := os.WriteFile(filepath.Join(configDir, name), []byte(text.String()), 0o600); err != nil {
			return nil, fmt.Errorf("write the engine's configuration: %w", err)
		}
	}
	return []string{
		"--path=" + filepath.Join(dataDir, "engine"),
		"--config-file=" + filepath.Join(configDir, "config.xml"),
	}, nil
}

func escapeXML(text string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(text)) // a Builder takes everything
	return b.String()
}
