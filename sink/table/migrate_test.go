package table

import (
	"reflect"
	"strings"
	"testing"
)

func TestStatements_EndWithALineThatEndsInASemicolon(t *testing.T) {
	for text, want := range map[string][]string{
		"":              nil,
		"-- only this;": nil,
		"A;":            {"A"},
		"A\n;\nB;":      {"A\n", "B"},
		"-- a; b\nCREATE\n\n  x 'a; b'\n-- c\n  ;\n": {"CREATE\n  x 'a; b'\n"},
		"A;\r\nB\r\n  y;\r\n":                        {"A", "B\r\ny"},
		"A;\nnot ended":                              {"A"},
	} {
		if got := statements(text); !reflect.DeepEqual(got, want) {
			t.Errorf("%q gives %q, want %q", text, got, want)
		}
	}
}

func TestMigrations_AreWholeAndCanBeRepeated(t *testing.T) {
	all, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 || Version() != len(all) {
		t.Fatalf("%d files, version %d", len(all), Version())
	}
	for _, m := range all {
		text, err := ddl.ReadFile("ddl/" + m.name + ".sql")
		if err != nil {
			t.Fatal(err)
		}
		if last := strings.TrimSpace(string(text)); !strings.HasSuffix(last, ";") {
			t.Errorf("%s does not end in a semicolon: its last statement is dropped", m.name)
		}
		for _, s := range m.statements {
			first, _, _ := strings.Cut(s, "\n")
			if !strings.Contains(first, "IF NOT EXISTS") && !strings.Contains(first, "OR REPLACE") {
				t.Errorf("%s: %q cannot be repeated", m.name, first)
			}
		}
	}
}

// TestMigrate_GoesOnWhereverItBrokeOff breaks a migration off behind each of its
// statements: before the version is written down, nothing counts as done.
func TestMigrate_GoesOnWhereverItBrokeOff(t *testing.T) {
	all, err := migrations()
	if err != nil {
		t.Fatal(err)
	}
	steps := append([]string{migrationsTable}, all[0].statements...)
	for done := 1; done <= len(steps); done++ {
		db := open(t)
		for _, s := range steps[:done] {
			if err := db.conn.Exec(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		if v, err := db.Applied(t.Context()); err != nil || v != 0 {
			t.Fatalf("behind %d statements: version %d, %v", done, v, err)
		}
		if names, err := db.Migrate(t.Context(), false); err != nil || len(names) != Version() {
			t.Fatalf("behind %d statements: %v, %v", done, names, err)
		}
		if v, err := db.Applied(t.Context()); err != nil || v != Version() {
			t.Errorf("behind %d statements: version %d at the end, %v", done, v, err)
		}
		var rows uint64
		if err := db.conn.QueryRow(t.Context(), "SELECT count() FROM schema_migrations").Scan(&rows); err != nil || rows != uint64(Version()) {
			t.Errorf("behind %d statements: %d migrations are written down, %v", done, rows, err)
		}
		if err := db.Insert(t.Context(), Events, eventRows(t, 1), "t", later()); err != nil {
			t.Errorf("behind %d statements: %v", done, err)
		}
	}
}

func TestMigrate_KeepsTheRowsThatAreThere(t *testing.T) {
	db := migrated(t)
	if err := db.Insert(t.Context(), Events, eventRows(t, 3), "t", later()); err != nil {
		t.Fatal(err)
	}
	if err := db.conn.Exec(t.Context(), "TRUNCATE TABLE schema_migrations"); err != nil { // as if it had broken off at the very end
		t.Fatal(err)
	}
	if _, err := db.Migrate(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if offsets, err := db.Offsets(t.Context(), Events, part, 0, 10); err != nil || len(offsets) != 3 {
		t.Errorf("%v, %v", offsets, err)
	}
}
