module drawbridge/tools

go 1.26
