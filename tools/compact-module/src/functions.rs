//! A module with its functions merged and put in order.

use std::collections::HashMap;
use std::convert::Infallible;

use anyhow::Context;
use wasm_encoder::reencode::{Error, Reencode, utils};
use wasm_encoder::{CodeSection, Encode, FunctionSection, Module};
use wasmparser::{
    CodeSectionReader, CustomSectionReader, FunctionBody, FunctionSectionReader, Parser, Payload, TypeRef,
};

/// The same module without custom sections and repeated functions, similar functions side by side.
pub(crate) fn compact(module: &[u8]) -> anyhow::Result<Vec<u8>> {
    let functions = Functions::read(module)?;
    let kept = functions.merge()?;
    let mut own: Vec<u32> = functions.own().filter(|index| kept[*index as usize] == *index).collect();
    // Of calls only that they are there: which number stands in them is not known before the order is.
    let mut no_number = Renumber(vec![0; kept.len()]);
    let bodies: Vec<_> =
        own.iter().map(|index| no_number.body(functions.body(*index))).collect::<Result<_, _>>()?;
    own = crate::order::by_similarity(&bodies).into_iter().map(|position| own[position]).collect();

    let mut numbers: Vec<u32> = (0..functions.imported).collect();
    numbers.resize(kept.len(), 0);
    for (number, index) in (functions.imported..).zip(&own) {
        numbers[*index as usize] = number;
    }
    let numbers = kept.iter().map(|index| numbers[*index as usize]).collect();
    let mut written = Module::new();
    Rewrite { functions: &functions, own: &own, numbers: Renumber(numbers) }.parse_core_module(
        &mut written,
        Parser::new(0),
        module,
    )?;
    Ok(written.finish())
}

/// The functions of a module. They are numbered from the imported ones on.
struct Functions<'a> {
    imported: u32,
    types: Vec<u32>,
    bodies: Vec<FunctionBody<'a>>,
}

impl<'a> Functions<'a> {
    fn read(module: &'a [u8]) -> anyhow::Result<Self> {
        let mut functions = Functions { imported: 0, types: Vec::new(), bodies: Vec::new() };
        for section in Parser::new(0).parse_all(module) {
            match section? {
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        functions.imported += u32::from(matches!(import?.ty, TypeRef::Func(_)));
                    }
                }
                Payload::FunctionSection(types) => {
                    functions.types = types.into_iter().collect::<Result<_, _>>()?
                }
                Payload::CodeSectionEntry(body) => functions.bodies.push(body),
                _ => {}
            }
        }
        Ok(functions)
    }

    fn own(&self) -> std::ops::Range<u32> {
        self.imported..self.imported + self.bodies.len() as u32
    }

    fn body(&self, index: u32) -> &FunctionBody<'a> {
        &self.bodies[(index - self.imported) as usize]
    }

    /// For each function the one that stands for it: itself, or the first that does the same. What calls equal functions
    /// may become equal itself, so this goes on until nothing does.
    fn merge(&self) -> anyhow::Result<Vec<u32>> {
        let mut kept = Renumber((0..self.own().end).collect());
        loop {
            let mut first: HashMap<(u32, Vec<u8>), u32> = HashMap::new();
            let mut next = kept.0.clone();
            for (index, type_index) in self.own().zip(&self.types) {
                let body = kept.body(self.body(index))?;
                next[index as usize] = *first.entry((*type_index, body)).or_insert(index);
            }
            if next == kept.0 {
                return Ok(next);
            }
            kept = Renumber(next);
        }
    }
}

/// Gives functions other numbers.
struct Renumber(Vec<u32>);

impl Reencode for Renumber {
    type Error = Infallible;

    fn function_index(&mut self, index: u32) -> Result<u32, Error> {
        Ok(self.0[index as usize])
    }
}

impl Renumber {
    fn body(&mut self, body: &FunctionBody<'_>) -> anyhow::Result<Vec<u8>> {
        let mut code = CodeSection::new();
        utils::parse_function_body(self, &mut code, body.clone()).context("a function cannot be read")?;
        let mut bytes = Vec::new();
        code.encode(&mut bytes);
        Ok(bytes)
    }
}

/// Writes the module anew, with these functions in this order.
struct Rewrite<'a> {
    functions: &'a Functions<'a>,
    own: &'a [u32],
    numbers: Renumber,
}

impl Reencode for Rewrite<'_> {
    type Error = Infallible;

    fn function_index(&mut self, index: u32) -> Result<u32, Error> {
        self.numbers.function_index(index)
    }

    fn parse_function_section(
        &mut self,
        types: &mut FunctionSection,
        _: FunctionSectionReader<'_>,
    ) -> Result<(), Error> {
        for index in self.own {
            types.function(self.functions.types[(index - self.functions.imported) as usize]);
        }
        Ok(())
    }

    fn parse_code_section(&mut self, code: &mut CodeSection, _: CodeSectionReader<'_>) -> Result<(), Error> {
        let (own, functions) = (self.own, self.functions);
        own.iter().try_for_each(|index| self.parse_function_body(code, functions.body(*index).clone()))
    }

    fn parse_custom_section(&mut self, _: &mut Module, _: CustomSectionReader<'_>) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Functions, compact};
    use wasm_encoder::{
        CodeSection, ConstExpr, ElementSection, Elements, EntityType, ExportKind, ExportSection, Function,
        FunctionSection, ImportSection, InstructionSink, Module, RefType, TableSection, TableType,
        TypeSection, ValType,
    };
    use wasmparser::{ElementItems, Operator, Parser, Payload};

    /// Function 0 is imported. 2 and 4 are equal, so are 1 and 5, which call them; 3 is like neither.
    fn module() -> Vec<u8> {
        let write = |body: &dyn Fn(&mut InstructionSink<'_>)| {
            let mut function = Function::new([]);
            body(&mut function.instructions());
            function.instructions().end();
            function
        };
        let caller = |callee: u32| {
            write(&move |body| {
                body.call(0).call(callee).i32_add();
            })
        };
        let constant = |value: i32| {
            write(&move |body| {
                body.i32_const(value).i32_const(value).i32_mul();
            })
        };
        let mut types = TypeSection::new();
        types.ty().function([], [ValType::I32]);
        let mut imports = ImportSection::new();
        imports.import("there", "imported", EntityType::Function(0));
        let mut functions = FunctionSection::new();
        let mut code = CodeSection::new();
        for body in [caller(2), constant(7), constant(9), constant(7), caller(4)] {
            functions.function(0);
            code.function(&body);
        }
        let mut tables = TableSection::new();
        let element_type = RefType::FUNCREF;
        tables.table(TableType { element_type, table64: false, minimum: 2, maximum: None, shared: false });
        let mut elements = ElementSection::new();
        elements.active(None, &ConstExpr::i32_const(0), Elements::Functions([4, 3].as_slice().into()));
        let mut exports = ExportSection::new();
        exports.export("imported", ExportKind::Func, 0);
        exports.export("nine", ExportKind::Func, 3);
        exports.export("caller", ExportKind::Func, 5);
        let mut module = Module::new();
        module.section(&types).section(&imports).section(&functions).section(&tables);
        module.section(&exports).section(&elements).section(&code);
        module.finish()
    }

    fn constant_of(functions: &Functions<'_>, index: u32) -> i32 {
        match functions.body(index).get_operators_reader().unwrap().read().unwrap() {
            Operator::I32Const { value } => value,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn everything_that_names_a_function_names_the_same_one_afterwards() {
        let compacted = compact(&module()).unwrap();
        let functions = Functions::read(&compacted).unwrap();
        assert_eq!((functions.imported, functions.bodies.len(), functions.types.len()), (1, 3, 3));
        let mut named = 0;
        for section in Parser::new(0).parse_all(&compacted) {
            match section.unwrap() {
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export.unwrap();
                        match export.name {
                            "imported" => assert_eq!(export.index, 0),
                            "nine" => assert_eq!(constant_of(&functions, export.index), 9),
                            _ => {
                                let mut body = functions.body(export.index).get_operators_reader().unwrap();
                                assert!(matches!(body.read().unwrap(), Operator::Call { function_index: 0 }));
                                let Operator::Call { function_index } = body.read().unwrap() else {
                                    panic!()
                                };
                                assert_eq!(constant_of(&functions, function_index), 7);
                            }
                        }
                        named += 1;
                    }
                }
                Payload::ElementSection(elements) => {
                    for element in elements {
                        let ElementItems::Functions(items) = element.unwrap().items else { panic!() };
                        let items: Vec<i32> =
                            items.into_iter().map(|item| constant_of(&functions, item.unwrap())).collect();
                        assert_eq!(items, [7, 9]);
                        named += 1;
                    }
                }
                _ => {}
            }
        }
        assert_eq!(named, 4);
    }

    #[test]
    fn what_is_no_module_is_refused() {
        assert!(compact(b"\0asm").is_err());
    }
}
